//! Exec of `paravane` to the first HTTP 200, over the user network.
use crate::figures::Figures;
use crate::server::{is_ok, release};
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn measure(figures: &mut Figures, quick: bool) -> Result<()> {
    eprintln!("boot: exec of paravane to the first HTTP 200, example site");
    let mut backends = vec!["process"];
    if std::fs::exists("/dev/kvm")? {
        backends.push("kvm");
    }
    for _ in 0..if quick { 2 } else { 15 } {
        for backend in &backends {
            let ms = first_response_ms(backend)?;
            figures.sample(&format!("boot: exec to first 200, {backend}"), "ms", ms);
        }
    }
    Ok(())
}

fn first_response_ms(backend: &str) -> Result<f64> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let start = Instant::now();
    let mut child = Command::new(release().join("paravane"))
        .args(["run", "web", "--backend", backend, "--site", "examples/site"])
        .args(["--publish", &format!("127.0.0.1:{port}:80")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting paravane")?;
    let mut elapsed = Duration::ZERO;
    let mut answered = false;
    while !answered && elapsed < Duration::from_secs(20) {
        answered = is_ok(&address, "/");
        elapsed = start.elapsed();
    }
    child.kill()?;
    child.wait()?;
    if !answered {
        bail!("no answer from the {backend} backend");
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}
