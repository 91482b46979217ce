//! The servers that are measured: started, pinned, ended.
use crate::cpus::measured;
use anyhow::{Context, Result, bail};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// A server process and its children.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `address:port` that it answers on.
    pub(crate) address: String,
    /// What it printed.
    log: NamedTempFile,
}

/// How much of what a server printed is quoted when it fails, bytes.
const QUOTED_MAX: usize = 600;

/// Where the release build lies.
pub(crate) fn release() -> PathBuf {
    target().join("release")
}

/// Where builds lie.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from)
}

impl Server {
    /// Starts a pinned server that is going to answer on `address`.
    pub(crate) fn start(program: &Path, arguments: &[&str], address: &str) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &measured().to_string()]).arg(program).args(arguments);
        Self::spawn(command, address)
    }

    /// As [`start`](Self::start), with a command that sees to the pinning itself.
    pub(crate) fn spawn(mut command: Command, address: &str) -> Result<Self> {
        let log = NamedTempFile::new()?;
        let output = || OpenOptions::new().append(true).open(log.path());
        command.stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, address: address.to_owned(), log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `GET path` is answered with 200.
    pub(crate) fn wait_ready(&mut self, path: &str) -> Result<()> {
        self.wait_until(|address| is_ok(address, path, Duration::from_secs(10)))
    }

    /// Waits until it `answers` at its address.
    pub(crate) fn wait_until(&mut self, answers: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !answers(&self.address) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server on {} ended: {status}: {}", self.address, self.quote());
            }
            if Instant::now() > deadline {
                bail!("no answer on {}: {}", self.address, self.quote());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The end of what it printed, in one line.
    fn quote(&self) -> String {
        let text = fs::read(self.log.path()).unwrap_or_default();
        let end = &text[text.len().saturating_sub(QUOTED_MAX)..];
        String::from_utf8_lossy(end).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// CPU time used so far by the server and its children, s.
    pub(crate) fn cpu_time_s(&self) -> f64 {
        self.processes().iter().map(|pid| cpu_time_s(*pid)).sum()
    }

    /// Proportional set size of the server and its children, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.processes().iter().map(|pid| proportional_memory(*pid)).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            all.extend(children(pid));
            next += 1;
        }
        all
    }
}

/// The processes that any thread of a process started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")));
    let lists: Vec<String> = lists.flatten().collect();
    lists.iter().flat_map(|list| list.split_whitespace()).flat_map(str::parse).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: kill has no memory effects; the child is ours and not yet waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // It did not end when asked to.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether one request on a new connection gives 200 before patience ends.
pub(crate) fn is_ok(address: &str, path: &str, patience: Duration) -> bool {
    status_line(address, path, patience).is_ok_and(|line| &line == b"HTTP/1.1 200")
}

/// The first bytes of the answer, as soon as they are there.
fn status_line(address: &str, path: &str, patience: Duration) -> std::io::Result<[u8; 12]> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    Ok(line)
}

/// CPU time of all threads of a process, those that have ended as well; 0 if the process is gone.
///
/// This is what `/proc/PID/stat` has in ticks of 10 ms, too long for a server that does little.
fn cpu_time_s(pid: u32) -> f64 {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result goes to a variable here.
    let found = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) } == 0;
    // SAFETY: as above.
    if !found || unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return 0.0;
    }
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(time.tv_sec.unsigned_abs(), nanoseconds).as_secs_f64()
}

fn proportional_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_of_children_counts() {
        let mut command = Command::new("sh");
        command.args(["-c", "timeout 30 sh -c 'while :; do :; done' & wait"]);
        let server = Server::spawn(command, "127.0.0.1:0").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while server.processes().get(2).is_none_or(|pid| cpu_time_s(*pid) < 0.01)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        let processes = server.processes();
        for pid in processes.iter().skip(1) {
            // SAFETY: kill has no memory effects; these are children of a process of ours.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
        }
        assert_eq!(processes.len(), 3, "{processes:?}");
        assert!(Instant::now() < deadline, "{processes:?} took no time");
    }

    #[test]
    fn what_a_server_printed_is_quoted_when_it_ends() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such; echo file >&2; exit 3"]);
        let mut server = Server::spawn(command, "127.0.0.1:1").unwrap();
        let error = server.wait_until(|_| false).unwrap_err().to_string();
        assert!(error.contains("exit status: 3: no such file"), "{error}");
    }
}
