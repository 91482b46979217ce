//! From exec to the first HTTP 200, over the user network of `paravane` or QEMU; beside them nginx, which
//! has no guest to start.
use crate::appliance::{Guest, Launch, Network, free_address};
use crate::figures::{quartiles, spread};
use crate::host::{Host, installed, text, words};
use crate::plot::{MarkRow, Marks, marks};
use crate::server::is_ok;
use crate::session::Session;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A user network takes connections before the guest is there, and may be slow to try again: after this
/// time without an answer, a new connection is made.
const PATIENCE: Duration = Duration::from_millis(50);

const SITE: &str = "examples/site";

/// What is started.
#[derive(Debug, Clone, Copy)]
enum Starter {
    /// The native server, with one worker process.
    Nginx,
    Web(Host),
}

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("boot: exec to the first HTTP 200, example site");
    let mut starters: Vec<_> = Host::available().into_iter().map(Starter::Web).collect();
    if installed("nginx") {
        starters.push(Starter::Nginx);
    }
    let mut rows: Vec<_> = starters.iter().map(|starter| (starter.name(), Vec::new())).collect();
    for _ in 0..session.pick(2, 25) {
        for (starter, (name, times)) in starters.iter().zip(&mut rows) {
            session.noise.calibrate()?;
            let ms = starter.first_response_ms()?;
            session.figures.sample(&format!("boot: exec to first 200, {name}"), "ms", ms);
            times.push(ms);
        }
    }
    plot(session, &rows);
    Ok(())
}

impl Starter {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "native nginx",
            Self::Web(host) => host.name(),
        }
    }

    fn launch(self, folder: &Path) -> Result<Launch> {
        match self {
            Self::Nginx => nginx(folder),
            Self::Web(host) => {
                Launch::new(host, Network::User, &Guest::web(Path::new(SITE)), folder)
            }
        }
    }

    fn first_response_ms(self) -> Result<f64> {
        let folder = tempfile::tempdir()?;
        let launch = self.launch(folder.path())?;
        let start = Instant::now();
        let mut child = Command::new(&launch.program)
            .args(&launch.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", launch.program.display()))?;
        let mut elapsed = Duration::ZERO;
        let mut answered = false;
        while !answered && elapsed < Duration::from_secs(20) {
            answered = is_ok(&launch.address, "/", PATIENCE);
            elapsed = start.elapsed();
        }
        end(&mut child)?;
        if !answered {
            bail!("no answer from {}", self.name());
        }
        Ok(elapsed.as_secs_f64() * 1e3)
    }
}

/// Ends a server with its children: a worker of nginx outlives a master that is killed.
fn end(child: &mut std::process::Child) -> Result<()> {
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: kill has no memory effects; the child is ours and not yet waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    child.wait()?;
    Ok(())
}

fn nginx(folder: &Path) -> Result<Launch> {
    let address = free_address()?;
    let config = folder.join("nginx.conf");
    let site = fs::canonicalize(SITE).context(SITE)?;
    let lines = format!(
        "daemon off; worker_processes 1; user root; pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{ }}\n\
         http {{ access_log off; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2;\n\
         fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         server {{ listen {address}; root {1}; }} }}\n",
        folder.display(),
        site.display()
    );
    fs::write(&config, lines)?;
    Ok(Launch { program: "nginx".into(), arguments: words(&["-c", &text(&config)]), address })
}

fn plot(session: &mut Session, rows: &[(&'static str, Vec<f64>)]) {
    let row = |(name, times): &(&str, Vec<f64>)| MarkRow {
        label: (*name).to_owned(),
        values: vec![Some(spread(times)), Some(quartiles(times))],
    };
    let names = vec!["all starts", "the middle half"];
    let title = "Exec to the first HTTP 200, ms".to_owned();
    session.plot("boot", marks(&Marks { title, names, rows: rows.iter().map(row).collect() }));
}
