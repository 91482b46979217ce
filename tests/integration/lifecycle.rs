//! Starting, stopping, dying: what stays behind and who else is hurt.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, children_of, guest};
use crate::web::{Web, small_site};
use anyhow::{Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("lifecycle::kill-leaves-nothing", kill_leaves_nothing).not_on_shim(ONE_PROCESS),
        Case::new("lifecycle::neighbour-unharmed", neighbour_unharmed)
            .needs("curl")
            .not_on_shim(ONE_PROCESS),
        Case::new("lifecycle::drain", drain),
        Case::new("lifecycle::busy-port", busy_port).not_on_shim("the port is QEMU's to open"),
    ]
}

const ONE_PROCESS: &str = "a machine is one process of QEMU's";

/// kill -9 of the supervisor ends the domain process with it and frees its port.
fn kill_leaves_nothing(backend: Backend) -> Result<()> {
    let mut web = Web::small(backend)?;
    // The guest's own line, behind the supervisor's: there is a domain process.
    web.domain.wait_for("web: serving")?;
    let children = children_of(web.domain.pid())?;
    ensure!(!children.is_empty(), "there is a domain process");
    web.domain.signal(libc::SIGKILL)?;
    let gone = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z"))
    };
    let all_gone = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        children.iter().all(gone)
    });
    ensure!(all_gone, "{children:?} live on");
    TcpListener::bind(("127.0.0.1", web.port))?;
    Ok(())
}

/// A guest that crashes, and one that hangs, leave the web guest beside them as it was.
fn neighbour_unharmed(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    for property in ["write-text", "syscall-getpid", "ring-chain-loops", "loop"] {
        let disk = tempfile::NamedTempFile::new()?;
        disk.as_file().set_len(64 << 10)?;
        let disk = disk.path().display().to_string();
        let hostile = guest("hostile");
        let arguments =
            ["--net", "none", "--watchdog", "1", "--disk", &disk, &hostile, "--", property];
        let ended = Domain::run(backend, &arguments)?;
        ensure!(matches!(ended.status, 103 | 104), "{property}: {ended:?}");
        ensure!(web.curl("/a.txt", &[])?.status == 200, "after {property}");
    }
    web.domain.stop()?.expect(0, &[])
}

/// SIGTERM: the response under way is finished, then the domain ends with status 0.
fn drain(backend: Backend) -> Result<()> {
    let mut web = Web::serve(backend, "", |site| {
        small_site(site)?;
        Ok(fs::write(site.join("huge.bin"), vec![b'h'; 32 << 20])?)
    })?;
    let mut stream = TcpStream::connect(("127.0.0.1", web.port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut start = [0; 1000];
    stream.read_exact(&mut start)?;
    web.domain.request_stop()?;
    std::thread::sleep(Duration::from_millis(200));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    let body = rest.iter().rev().take_while(|b| **b == b'h').count();
    ensure!(body > (32 << 20) - 1000, "the response was cut at {body} bytes");
    web.domain.ended()?.expect(0, &[])
}

fn busy_port(backend: Backend) -> Result<()> {
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let port = holder.local_addr()?.port();
    let folder = tempfile::tempdir()?;
    let site = folder.path().display().to_string();
    let publish = format!("127.0.0.1:{port}:80");
    let ended = Domain::run(backend, &["web", "--site", &site, "--publish", &publish])?;
    ended.expect(102, &[&port.to_string(), "in use"])
}
