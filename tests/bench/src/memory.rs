//! Size of the web image; memory of an idle appliance, VMM and guest together.
use crate::host::paravane;
use crate::server::{Server, release};
use crate::session::Session;
use anyhow::{Context, Result, ensure};
use std::net::TcpListener;
use std::process::Command;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("memory: the web image and an idle appliance, example site");
    session.figures.sample("size: web image, stripped", "MiB", stripped_size()? / MIB);
    for _ in 0..session.pick(1, 5) {
        session.figures.sample("memory: idle web appliance, process", "MiB", idle_memory()? / MIB);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn stripped_size() -> Result<f64> {
    let stripped = tempfile::NamedTempFile::new()?;
    let image = release().join("images/web");
    let done = Command::new("strip").arg("-o").arg(stripped.path()).arg(&image).status();
    ensure!(done.context("running strip")?.success(), "strip {}", image.display());
    Ok(stripped.as_file().metadata()?.len() as f64)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn idle_memory() -> Result<f64> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let publish = format!("{address}:80");
    let arguments =
        ["run", "web", "--backend", "process", "--site", "examples/site", "--publish", &publish];
    let mut server = Server::start(&paravane(), &arguments, &address)?;
    server.wait_ready("/")?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    Ok(server.memory_bytes() as f64)
}
