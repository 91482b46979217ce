//! Many appliances at once.
use super::usage::memory_bytes;
use crate::host::{paravane, text};
use crate::server::{children, is_ok};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// A request that takes longer has failed. Many start at once, and take their turns.
const PATIENCE: Duration = Duration::from_secs(60);

/// Signals that end the benchmark: the appliances end first.
const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// One of [`SIGNALS`] came.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Running web appliances, ended when dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    appliances: Vec<Appliance>,
    /// What they say.
    log: NamedTempFile,
}

#[derive(Debug)]
struct Appliance {
    child: Child,
    address: String,
}

/// Has a signal that would end this process end the fleet first. A second one works as usual.
pub(super) fn end_with_this_process() {
    extern "C" fn note(signal: libc::c_int) {
        IS_INTERRUPTED.store(true, Ordering::Relaxed);
        // SAFETY: `signal` is async-signal-safe, and the default disposition always valid.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    for signal in SIGNALS {
        // SAFETY: the handler does only what is safe in one.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

impl Fleet {
    /// Starts `count` appliances with the example site, each on a port of its own.
    pub(super) fn start(count: u32) -> Result<Self> {
        let mut fleet = Self { appliances: Vec::new(), log: NamedTempFile::new()? };
        let mut shown = Instant::now();
        for address in free_addresses(count)? {
            ensure!(!IS_INTERRUPTED.load(Ordering::Relaxed), "interrupted");
            let child = spawn(&address, fleet.log.reopen()?)?;
            fleet.appliances.push(Appliance { child, address });
            if shown.elapsed() > Duration::from_secs(1) {
                shown = Instant::now();
                eprintln!("  {} of {count} appliances are started", fleet.appliances.len());
            }
        }
        Ok(fleet)
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.appliances.len()).unwrap_or(u32::MAX)
    }

    /// Waits until each has answered a request.
    pub(super) fn wait_for_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.appliances.iter_mut().try_for_each(|appliance| appliance.wait(deadline, &self.log))
    }

    /// Makes requests to appliances here and there, each on a new connection; how long they took, ms.
    pub(super) fn ask(&self, requests: usize) -> Result<Vec<f64>> {
        // A prime far from the numbers of appliances: all have their turn, and neighbours none.
        const STRIDE: usize = 7919;
        let mut latencies = Vec::new();
        for i in 0..requests {
            let Appliance { address, .. } = &self.appliances[i * STRIDE % self.appliances.len()];
            let start = Instant::now();
            ensure!(is_ok(address, "/", PATIENCE), "no answer on {address}");
            latencies.push(start.elapsed().as_secs_f64() * 1e3);
            ensure!(!IS_INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        }
        Ok(latencies)
    }

    /// Supervisors and domain processes.
    pub(super) fn processes(&self) -> Vec<u32> {
        let supervisors = self.appliances.iter().map(|appliance| appliance.child.id());
        supervisors.flat_map(|pid| std::iter::once(pid).chain(children(pid))).collect()
    }

    /// Proportional set size of all, bytes; `None` if this user may not look.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.processes().into_iter().map(memory_bytes).sum()
    }

    /// Asks all to end and waits until they have, each as it should.
    pub(super) fn end(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM);
        for Appliance { child, address } in &mut self.appliances {
            let status = child.wait()?;
            ensure!(status.success(), "the appliance on {address} ended with {status}");
        }
        self.appliances.clear();
        Ok(())
    }

    fn signal(&self, signal: libc::c_int) {
        for pid in self.appliances.iter().filter_map(|a| i32::try_from(a.child.id()).ok()) {
            // SAFETY: kill has no memory effects; the child is ours and not yet waited for.
            unsafe { libc::kill(pid, signal) };
        }
    }
}

impl Appliance {
    fn wait(&mut self, deadline: Instant, log: &NamedTempFile) -> Result<()> {
        let Self { child, address } = self;
        while !is_ok(address, "/", PATIENCE) {
            if let Some(status) = child.try_wait()? {
                bail!("the appliance on {address} ended: {status}: {}", last_words(log));
            }
            ensure!(Instant::now() < deadline, "no answer on {address}");
            ensure!(!IS_INTERRUPTED.load(Ordering::Relaxed), "interrupted");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// The last line that an appliance wrote, other than that it serves.
fn last_words(log: &NamedTempFile) -> String {
    let mut text = String::new();
    let read = log.reopen().and_then(|mut log| log.read_to_string(&mut text));
    let last = text.lines().rfind(|line| !line.contains(": serving "));
    read.ok().and(last).unwrap_or("it said nothing").to_owned()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        for Appliance { child, .. } in &mut self.appliances {
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    // It did not end when asked to.
                    drop(child.kill());
                    drop(child.wait());
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn spawn(address: &str, log: File) -> Result<Child> {
    let publish = format!("{address}:80");
    let mut command = Command::new(paravane());
    command.args(["run", "web", "--backend", "process", "--publish", &publish]);
    command.args(["--site", &text(Path::new("examples/site"))]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // SAFETY: prctl is async-signal-safe. However the benchmark ends, none of its appliances stays.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    command.spawn().with_context(|| {
        format!("starting {} (is there a limit on processes, or on memory?)", paravane().display())
    })
}

/// Addresses on loopback with a free port each. All are taken at once, so that they differ.
fn free_addresses(count: u32) -> Result<Vec<String>> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let listeners: Vec<_> =
        (0..count).map(|_| bind()).collect::<io::Result<_>>().with_context(|| {
            format!("finding {count} free ports (the limit on open files is: ulimit -n)")
        })?;
    Ok(listeners
        .iter()
        .map(TcpListener::local_addr)
        .map(|a| a.map(|a| a.to_string()))
        .collect::<io::Result<_>>()?)
}
