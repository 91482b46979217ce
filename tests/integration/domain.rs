//! Running `paravane run`, or a machine with a bundle, and looking at what it says.
use crate::backend::Backend;
use crate::shim::{self, CTRL_C};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
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

/// The processes that a process with one thread started.
pub(crate) fn children_of(pid: u32) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// A running `paravane run`, or a machine with a bundle. Killed when dropped.
pub(crate) struct Domain {
    child: Child,
    output: Arc<Output>,
    readers: Vec<std::thread::JoinHandle<()>>,
    machine: Option<SerialLine>,
}

/// What a machine has and `paravane run` does not.
struct SerialLine {
    input: ChildStdin,
    /// Its bundle.
    _folder: tempfile::TempDir,
}

/// What a domain that ended leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit status of `paravane run`, 128 + signal if it was killed; of a machine, the status that
    /// the shim told.
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
        Self::start_behind(&[], backend, arguments)
    }

    /// The same with the words of `before` in front of the command: `ip netns exec ...`.
    pub(crate) fn start_behind(
        before: &[&str],
        backend: Backend,
        arguments: &[&str],
    ) -> Result<Self> {
        if backend == Backend::Shim {
            return shim::start_behind(before, arguments);
        }
        let program = paravane().display().to_string();
        let words = [before, &[&program, "run", "--backend", backend.name()], arguments].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        Self::spawn(command)
    }

    /// Starts what `command` says, a `paravane run` with something before it.
    pub(crate) fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null());
        Ok(Self::follow(command)?.0)
    }

    /// Starts what `command` says, a machine with its serial line on standard input and output. The
    /// folder is kept as long as the machine.
    pub(crate) fn spawn_machine(mut command: Command, folder: tempfile::TempDir) -> Result<Self> {
        command.stdin(Stdio::piped());
        let (mut domain, input) = Self::follow(command)?;
        domain.machine = Some(SerialLine { input: input.context("piped")?, _folder: folder });
        Ok(domain)
    }

    fn follow(mut command: Command) -> Result<(Self, Option<ChildStdin>)> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = Arc::new(Output::default());
        let out = child.stdout.take().context("piped")?;
        let err = child.stderr.take().context("piped")?;
        let readers = vec![follow(out, output.clone()), follow(err, output.clone())];
        let input = child.stdin.take();
        Ok((Self { child, output, readers, machine: None }, input))
    }

    /// Runs until the domain ends by itself, or does not even start.
    pub(crate) fn run(backend: Backend, arguments: &[&str]) -> Result<Ended> {
        Self::start(backend, arguments).and_then(Self::ended).or_else(anyhow::Error::downcast)
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

    /// Asks the domain to stop: with a signal, or on the machine's serial line.
    pub(crate) fn request_stop(&mut self) -> Result<()> {
        if self.machine.is_some() { self.send(&[CTRL_C]) } else { self.signal(libc::SIGTERM) }
    }

    /// Types on the machine's serial line.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let line = self.machine.as_mut().context("only machines have a serial line")?;
        Ok(line.input.write_all(bytes)?)
    }

    /// Asks the domain to stop and waits for its end.
    pub(crate) fn stop(mut self) -> Result<Ended> {
        self.request_stop()?;
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
        let (status, text) = (status.context("ended somehow")?, self.text());
        let (status, text) = match self.machine {
            Some(_) => shim::told_status(status, &text)?,
            None => (status, text),
        };
        Ok(Ended { status, text })
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
            // As serial lines end them.
            if line.ends_with(b"\r\n") {
                line.remove(line.len() - 2);
            }
            to.text.lock().expect("no panic").push_str(&String::from_utf8_lossy(&line));
            to.grown.notify_all();
            line.clear();
        }
    })
}

/// For a domain that ended where it should have started.
impl std::error::Error for Ended {}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended with status {}:\n{}", self.status, self.text)
    }
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
