//! Running `paravane run` and looking at what it says.
use crate::backend::Backend;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// No run takes longer; a bound against hanging, not a demand on speed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder that the release build lies in.
pub(crate) fn release() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    target.unwrap_or_else(|| top.join("target")).join("release")
}

/// The binary under test.
pub(crate) fn paravane() -> PathBuf {
    release().join("paravane")
}

/// A test guest.
pub(crate) fn guest(name: &str) -> String {
    release().join(name).display().to_string()
}

/// A TCP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A running `paravane run`. Killed when dropped.
pub(crate) struct Domain {
    child: Child,
    output: Arc<Output>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// What a domain that ended leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit status of `paravane run`; 128 + signal if it was killed.
    pub(crate) status: i32,
    /// Standard output and standard error, line by line as they came.
    pub(crate) text: String,
}

#[derive(Default)]
struct Output {
    text: Mutex<String>,
    grown: Condvar,
}

impl Domain {
    /// Starts `paravane run ARGUMENTS` on a backend.
    pub(crate) fn start(backend: Backend, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(paravane());
        command.args(["run", "--backend", backend.name()]).args(arguments);
        Self::spawn(command)
    }

    /// Starts what `command` says, a `paravane run` with something before it.
    pub(crate) fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting paravane")?;
        let output = Arc::new(Output::default());
        let out = child.stdout.take().context("piped")?;
        let err = child.stderr.take().context("piped")?;
        let readers = vec![follow(out, output.clone()), follow(err, output.clone())];
        Ok(Self { child, output, readers })
    }

    /// Runs until the domain ends by itself.
    pub(crate) fn run(backend: Backend, arguments: &[&str]) -> Result<Ended> {
        Self::start(backend, arguments)?.ended()
    }

    /// Process ID of the supervisor.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What was printed so far.
    pub(crate) fn text(&self) -> String {
        self.output.text.lock().expect("readers do not panic").clone()
    }

    /// Waits until the text is printed.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.text().contains(wanted) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} before printing {wanted:?}:\n{}", self.text());
            }
            ensure!(Instant::now() < deadline, "never printed {wanted:?}:\n{}", self.text());
            let text = self.output.text.lock().expect("readers do not panic");
            drop(self.output.grown.wait_timeout(text, Duration::from_millis(50)));
        }
    }

    /// Sends a signal to the supervisor.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        // SAFETY: kill has no memory effects; the child is ours and not yet waited for.
        let result = unsafe { libc::kill(pid, signal) };
        ensure!(result == 0, "kill: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Asks the domain to stop and waits for its end.
    pub(crate) fn stop(self) -> Result<Ended> {
        self.signal(libc::SIGTERM)?;
        self.ended()
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Result<Ended> {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("did not end:\n{}", self.text()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("readers do not panic");
        }
        let status = status.code().or_else(|| status.signal().map(|s| 128 + s));
        Ok(Ended { status: status.context("ended somehow")?, text: self.text() })
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // Already ended is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn follow(from: impl Read + Send + 'static, to: Arc<Output>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            to.text.lock().expect("no panic").push_str(&String::from_utf8_lossy(&line));
            to.grown.notify_all();
            line.clear();
        }
    })
}

impl Ended {
    /// Checks the exit status and that the output has each phrase.
    pub(crate) fn expect(&self, status: i32, phrases: &[&str]) -> Result<()> {
        ensure!(self.status == status, "status {}, not {status}:\n{}", self.status, self.text);
        for phrase in phrases {
            ensure!(self.text.contains(phrase), "{phrase:?} is missing:\n{}", self.text);
        }
        Ok(())
    }
}
