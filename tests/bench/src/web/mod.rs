//! Requests per second: the web appliance on each host against nginx over loopback, one worker each.
mod contender;

use crate::appliance::{Launch, Network};
use crate::cpus::clients;
use crate::host::{Host, installed};
use crate::plot::{self, Plot, PlotRow};
use crate::server::Server;
use crate::session::Session;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use contender::Contender;

const CONNECTIONS: u32 = 64;
const BODY_LEN: usize = 128;

/// Row of the native server.
const NGINX: &str = "nginx over loopback";

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("web: {BODY_LEN} B file, keep-alive, {CONNECTIONS} connections");
    if !installed("wrk") {
        eprintln!("  no wrk: the part web is left out");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut contenders = start(&folder)?;
    for (_, server) in &mut contenders {
        server.wait_ready("/small.txt")?;
    }
    let seconds = session.pick(1, 5);
    for _ in 0..session.pick(1, 5) {
        let mut baseline = None;
        for (name, server) in &contenders {
            session.noise.calibrate()?;
            let run = run(server, seconds)?;
            session.figures.sample(&figure("requests/s", name), "/s", run.requests_per_s);
            session.figures.sample(&figure("CPU per request", name), "us", run.cpu_us);
            if name == NGINX {
                baseline = Some(run.requests_per_s);
                session.noise.yardstick("a request to nginx", 1.0 / run.requests_per_s);
            }
            if let Some(base) = baseline {
                session.figures.sample(&figure(RATIO, name), "x", run.requests_per_s / base);
            }
        }
    }
    draw(session, contenders.iter().map(|(name, _)| name));
    Ok(())
}

const RATIO: &str = "ratio to nginx";

fn figure(what: &str, contender: &str) -> String {
    format!("web: {what}, {contender}")
}

fn draw<'a>(session: &mut Session, contenders: impl Iterator<Item = &'a String>) {
    let row = |name: &String| {
        let spread = session.figures.spread(&figure(RATIO, name))?;
        Some(PlotRow { label: name.clone(), spread })
    };
    let rows: Vec<_> = contenders.filter_map(row).collect();
    if !rows.is_empty() {
        let title = format!("Requests/s relative to nginx, {CONNECTIONS} connections");
        session.plot("web", plot::svg(&Plot { title, rows, references: Vec::new() }));
    }
}

/// Starts all servers that can be had here; the native one, which others are compared with, is the first.
fn start(folder: &tempfile::TempDir) -> Result<Vec<(String, Server)>> {
    let site = folder.path().join("site");
    fs::create_dir(&site)?;
    fs::write(site.join("small.txt"), vec![b'x'; BODY_LEN])?;
    let mut contenders = Vec::new();
    if installed("nginx") {
        contenders.push((NGINX.to_owned(), nginx(folder.path(), &site)?));
    } else {
        eprintln!("  no nginx: the row {NGINX} and all ratios are left out");
    }
    // SAFETY: geteuid only returns a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("  not root: the tap rows are left out");
    }
    for host in Host::available() {
        for (network, name) in [(Network::User, "user network"), (Network::Tap, "tap")] {
            if network == Network::User || is_root {
                let launch = Launch::new(host, network, &site, &subfolder(folder, host, name)?)?;
                contenders.push((format!("{}, {name}", host.name()), launch.start()?));
            }
        }
    }
    Ok(contenders)
}

/// A folder of its own for each contender.
fn subfolder(folder: &tempfile::TempDir, host: Host, network: &str) -> Result<PathBuf> {
    let path = folder.path().join(format!("{}-{network}", host.name()));
    fs::create_dir(&path)?;
    Ok(path)
}

struct Run {
    requests_per_s: f64,
    cpu_us: f64,
}

/// A connection that waited long to be taken, as QEMU's user network has them wait, is slow and no error.
const PATIENCE: &str = "30s";

fn run(server: &Server, seconds: u32) -> Result<Run> {
    let before = server.cpu_time_s();
    let output = Command::new("taskset")
        .args(["-c", &clients().to_string(), "wrk", "-t1", "--timeout", PATIENCE])
        .args([format!("-c{CONNECTIONS}"), format!("-d{seconds}s")])
        .arg(format!("http://{}/small.txt", server.address))
        .output()
        .context("running wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let find = |label: &str| -> Option<f64> {
        let rest = text.lines().find_map(|l| l.trim().strip_prefix(label))?;
        rest.trim().parse().ok()
    };
    let requests_per_s = find("Requests/sec:").with_context(|| text.clone())?;
    let requests = requests_per_s * f64::from(seconds);
    Ok(Run { requests_per_s, cpu_us: (server.cpu_time_s() - before) * 1e6 / requests })
}

fn nginx(folder: &Path, site: &Path) -> Result<Server> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush off;\n\
         open_file_cache max=100; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2;\n\
         fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
        folder.display(),
        site.display()
    );
    fs::write(&config, text)?;
    // The worker drops root, and has to read the site all the same.
    let open = Command::new("chmod").arg("-R").arg("a+rX").arg(folder).status()?;
    ensure!(open.success(), "chmod");
    let config = config.display().to_string();
    Server::start(Path::new("nginx"), &["-c", &config], &format!("127.0.0.1:{port}"))
}
