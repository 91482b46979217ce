//! The servers that are measured: started, pinned, ended.
use crate::cpus::measured;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process and its children.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `address:port` that it answers on.
    pub(crate) address: String,
}

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
        let child = Command::new("taskset")
            .args(["-c", &measured().to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, address: address.to_owned() })
    }

    /// Waits until `GET path` is answered with 200.
    pub(crate) fn wait_ready(&mut self, path: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_ok(&self.address, path, Duration::from_secs(10)) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server on {} ended: {status}", self.address);
            }
            if Instant::now() > deadline {
                bail!("no answer on {}", self.address);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
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
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        all
    }
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

fn cpu_time_s(pid: u32) -> f64 {
    const TICKS_PER_S: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the name was the second.
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_S
}

fn proportional_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
