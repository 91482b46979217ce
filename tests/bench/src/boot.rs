//! From exec to the first HTTP 200, over the user network of `paravane` or QEMU.
use crate::appliance::{Guest, Launch, Network};
use crate::host::Host;
use crate::server::is_ok;
use crate::session::Session;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A user network takes connections before the guest is there, and may be slow to try again: after this
/// time without an answer, a new connection is made.
const PATIENCE: Duration = Duration::from_millis(50);

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("boot: exec to the first HTTP 200, example site");
    let hosts = Host::available();
    for _ in 0..session.pick(2, 15) {
        for host in &hosts {
            session.noise.calibrate()?;
            let ms = first_response_ms(*host)?;
            session.figures.sample(&format!("boot: exec to first 200, {}", host.name()), "ms", ms);
        }
    }
    Ok(())
}

fn first_response_ms(host: Host) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let guest = Guest::web(Path::new("examples/site"));
    let launch = Launch::new(host, Network::User, &guest, folder.path())?;
    let start = Instant::now();
    let mut child = Command::new(&launch.program)
        .args(&launch.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", launch.program.display()))?;
    let mut elapsed = Duration::ZERO;
    let mut answered = false;
    while !answered && elapsed < Duration::from_secs(20) {
        answered = is_ok(&launch.address, "/", PATIENCE);
        elapsed = start.elapsed();
    }
    child.kill()?;
    child.wait()?;
    if !answered {
        bail!("no answer from {}", host.name());
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}
