//! Many appliances on one host.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, children_of, free_port};
use crate::web::small_site;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const COUNT: usize = 30;

/// Threads that take the processors from the appliances.
const BURNERS: usize = 8;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("crowd::thirty-at-once", thirty_at_once)
            .not_on_shim("thirty machines of QEMU's are another matter"),
    ]
}

/// Thirty appliances start at once on processors that are busy otherwise, with an impatient watchdog:
/// each answers, none counts as hung, all end as asked, and nothing is left.
fn thirty_at_once(backend: Backend) -> Result<()> {
    let folder = tempfile::tempdir()?;
    small_site(folder.path())?;
    let site = folder.path().display().to_string();
    let burners = Burners::start();
    let start = |port: &u16| {
        let publish = format!("127.0.0.1:{port}:80");
        let arguments = ["web", "--watchdog", "1", "--site", &site, "--publish", &publish];
        Domain::start(backend, &arguments)
    };
    let ports = free_ports();
    let mut domains = ports.iter().map(start).collect::<Result<Vec<_>>>()?;
    for (domain, port) in domains.iter_mut().zip(&ports) {
        domain.wait_for("serving")?;
        ask(*port).with_context(|| domain.text())?;
    }
    // Idle ones are still there when it is over for the others.
    let last = domains.pop().context("thirty")?;
    let mut processes = Vec::new();
    for domain in &mut domains {
        processes.extend(children_of(domain.pid())?);
        domain.request_stop()?;
    }
    ensure!(processes.len() == COUNT - 1, "a domain process each: {processes:?}");
    for domain in domains {
        domain.ended()?.expect(0, &[])?;
    }
    drop(burners);
    let left: Vec<_> =
        processes.iter().filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(true)).collect();
    ensure!(left.is_empty(), "{left:?} live on");
    let (last_port, ports) = ports.split_last().context("thirty")?;
    for port in ports {
        TcpListener::bind(("127.0.0.1", *port)).with_context(|| format!("port {port}"))?;
    }
    ask(*last_port)?;
    last.stop()?.expect(0, &[])
}

fn ask(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0123456789"), "{answer}");
    Ok(())
}

/// Ports that were free a moment ago, all different.
fn free_ports() -> Vec<u16> {
    let mut ports = BTreeSet::new();
    while ports.len() < COUNT {
        ports.insert(free_port());
    }
    ports.into_iter().collect()
}

/// Threads that use all the processor time that they get, until dropped.
struct Burners {
    is_over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Burners {
    fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let burn = |_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..BURNERS).map(burn).collect();
        Self { is_over, threads }
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
