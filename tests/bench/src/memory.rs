//! Sizes of what is installed; memory of an idle appliance, VMM and guest together, and of its idle
//! connections.
use crate::appliance::{Guest, Launch, Network};
use crate::host::Host;
use crate::server::{Server, release};
use crate::session::Session;
use crate::web::limits::raise_open_files;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const MIB: f64 = 1024.0 * 1024.0;

/// Time for the last response's memory to be given back.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("memory: what is installed, an idle appliance, idle connections; example site");
    for (name, file) in [("web image", "images/web"), ("shim", "shim"), ("VMM", "paravane")] {
        let size = stripped_size(&release().join(file))? / MIB;
        session.figures.sample(&format!("size: {name}, stripped"), "MiB", size);
    }
    raise_open_files()?;
    let hosts = Host::available().into_iter().filter(|host| *host != Host::Emulation);
    let hosts: Vec<_> = hosts.collect();
    // SAFETY: geteuid only returns a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("  only root may look at the memory of a sandbox: left out");
        return Ok(());
    }
    for _ in 0..session.pick(1, 5) {
        for host in &hosts {
            one(session, *host)?;
        }
    }
    Ok(())
}

fn one(session: &mut Session, host: Host) -> Result<()> {
    let count = session.pick(256, 4096);
    for (network, name) in [(Network::User, "user network"), (Network::Tap, "tap")] {
        session.noise.calibrate()?;
        let folder = tempfile::tempdir()?;
        let guest = Guest::web(Path::new("examples/site"));
        let mut server = Launch::new(host, network, &guest, folder.path())?.start()?;
        server.wait_ready("/")?;
        let idle = memory(&server);
        let name = format!("{}, {name}", host.name());
        session.figures.sample(&format!("memory: idle web appliance, {name}"), "MiB", idle);
        let connections = idle_connections(&server.address, count)?;
        let beyond = memory(&server) - idle;
        let what = format!("memory: {count} idle connections, beyond an idle appliance, {name}");
        session.figures.sample(&what, "MiB", beyond);
        drop(connections);
    }
    Ok(())
}

/// Opens connections, each of which is answered once and then kept.
fn idle_connections(address: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for number in 1..=count {
        let connection = answered(address);
        connections.push(connection.with_context(|| format!("connection {number} of {count}"))?);
    }
    Ok(connections)
}

/// A connection after its first response, which has no body.
fn answered(address: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let len = stream.read(&mut buffer)?;
        ensure!(len > 0, "closed after {:?}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&buffer[..len]);
    }
    ensure!(head.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&head));
    Ok(stream)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn stripped_size(file: &Path) -> Result<f64> {
    let stripped = tempfile::NamedTempFile::new()?;
    let done = Command::new("strip").arg("-o").arg(stripped.path()).arg(file).status();
    ensure!(done.context("running strip")?.success(), "strip {}", file.display());
    Ok(stripped.as_file().metadata()?.len() as f64)
}

/// MiB.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn memory(server: &Server) -> f64 {
    std::thread::sleep(SETTLE);
    server.memory_bytes() as f64 / MIB
}
