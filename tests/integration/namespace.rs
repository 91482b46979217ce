//! Network namespaces, so that a case has a network of its own.
use anyhow::{Context, Result, anyhow, ensure};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether namespaces can be made.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() == 0 }
}

/// A network namespace, removed when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("paravane-{}-{number}", std::process::id()));
        run(Command::new("ip").args(["netns", "add", &namespace.0]))?;
        namespace.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// What in front of a command runs it in the namespace.
    pub(crate) fn enter(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.0]
    }

    /// A command in the namespace.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let [program, enter @ ..] = self.enter();
        let mut command = Command::new(program);
        command.args(enter).args(words);
        command
    }

    /// Does something on a thread that is in the namespace: sockets that it makes are of there.
    pub(crate) fn inside<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter_thread().and_then(|()| f()));
            thread.join().map_err(|_| anyhow!("a thread in the namespace panicked"))?
        })
    }

    /// Moves the calling thread into the namespace.
    pub(crate) fn enter_thread(&self) -> Result<()> {
        let file = File::open(Path::new("/run/netns").join(&self.0))?;
        // SAFETY: setns takes numbers; the descriptor is open, and only this thread is moved.
        let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        ensure!(result == 0, "setns: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Runs a command in the namespace; its failure is an error.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Output> {
        run(&mut self.command(words))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing more can be done about a namespace that does not go.
        drop(run(Command::new("ip").args(["netns", "delete", &self.0])));
    }
}

/// Runs a command; its failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(output)
}
