//! Many requests and many connections.
use crate::backend::Backend;
use crate::case::Case;
use crate::web::{Web, small_site};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    let raised = raise_descriptor_limit(IDLE_CONNECTIONS + 500);
    vec![
        Case::new("load::wrk-burst", wrk_burst).needs("wrk"),
        Case::new("load::new-connections", new_connections).needs("curl"),
        Case::new("load::slow-clients", slow_clients).needs("curl"),
        Case::new("load::ten-thousand-idle", ten_thousand_idle)
            .only_if(raised, "the limit on open files cannot be raised")
            .not_on_shim("QEMU's user network takes minutes for as many connections")
            .needs("curl"),
    ]
}

/// wrk verifies every response: its script fails the run on the first wrong one.
fn wrk_burst(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("verify.lua");
    std::fs::write(
        &script,
        r#"
wrong = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() wrong = 0 end
function response(status, headers, body)
  if status ~= 200 or body ~= "0123456789" then wrong = wrong + 1 end
end
function done(summary)
  local sum = 0
  for _, thread in ipairs(threads) do sum = sum + thread:get("wrong") end
  local errors = summary.errors
  io.write(string.format("verified=%d wrong=%d socket_errors=%d\n", summary.requests, sum,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"#,
    )?;
    let output = Command::new("wrk")
        .args(["-t2", "-c64", "-d3s", "--timeout", "30s", "-s"])
        .arg(&script)
        .arg(format!("{}/a.txt", web.url))
        .output()
        .context("running wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("wrong=0 socket_errors=0"), "{text}");
    ensure!(!text.contains("verified=0 "), "{text}");
    web.domain.stop()?.expect(0, &[])
}

fn new_connections(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    for i in 0..300 {
        let body = fetch(web.port).with_context(|| format!("connection {i}"))?;
        ensure!(body.ends_with("0123456789"), "connection {i}: {body}");
    }
    Ok(())
}

fn fetch(port: u16) -> Result<String> {
    let mut stream = connect(port)?;
    stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Clients that send a byte now and then neither hold up others nor stay for ever.
fn slow_clients(backend: Backend) -> Result<()> {
    let config = "[timeouts]\nheader_seconds = 2\n";
    let web = Web::serve(backend, config, small_site)?;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(web.port)?;
        stream.write_all(b"GET / HT")?;
        slow.push(stream);
        if backend == Backend::Shim {
            // In QEMU's user network one connection can wait to be taken; more are told to try later.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    ensure!(web.curl("/a.txt", &[])?.status == 200, "others are served meanwhile");
    for mut stream in slow {
        let mut rest = Vec::new();
        // The end may come as a reset, too.
        drop(stream.read_to_end(&mut rest));
        let text = String::from_utf8_lossy(&rest);
        ensure!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
    ensure!(web.curl("/a.txt", &[])?.status == 200, "and afterwards");
    Ok(())
}

const IDLE_CONNECTIONS: u64 = 10_000;

/// Ten thousand idle connections are survived, or refused cleanly; afterwards all is as before.
fn ten_thousand_idle(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let mut idle = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        match TcpStream::connect(("127.0.0.1", web.port)) {
            Ok(stream) => idle.push(stream),
            Err(_) => break,
        }
    }
    let meanwhile = web.curl("/a.txt", &[]);
    if let Ok(answer) = &meanwhile {
        ensure!(matches!(answer.status, 200 | 503), "{answer:?}");
    }
    drop(idle);
    let settled = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        web.curl("/a.txt", &[]).is_ok_and(|answer| answer.status == 200)
    });
    ensure!(settled, "no answer after the idle connections left");
    web.domain.stop()?.expect(0, &[])
}

pub(crate) fn raise_descriptor_limit(wanted: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes the structure given.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_cur.max(wanted);
    limit.rlim_max = limit.rlim_max.max(wanted);
    // SAFETY: setrlimit reads the structure given.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}
