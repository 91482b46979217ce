//! The network namespace that the session has for itself, and how it is set up.
use anyhow::{Context, Result};
use std::fs;

/// For thousands of connections at a time, and tens of thousands of new ones a second.
///
/// Who closes a connection first has its port in TIME-WAIT for a minute. With more than this many, the
/// kernel forgets the others at once: else the client would run out of ports within seconds.
const SETTINGS: [(&str, &str); 5] = [
    ("net/core/somaxconn", "65535"),
    ("net/ipv4/tcp_max_syn_backlog", "65535"),
    ("net/ipv4/ip_local_port_range", "10000 65535"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/tcp_max_tw_buckets", "4096"),
];

const CONGESTION: &str = "net/ipv4/tcp_congestion_control";

/// Whether this process is in a network namespace that the machine does not use, and may change it.
pub(crate) fn is_own() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    // SAFETY: geteuid only returns a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    is_root && namespace("self").is_some() && namespace("self") != namespace("1")
}

/// Sets the namespace up; one that is not ours stays as it is.
pub(crate) fn set_up() -> Result<()> {
    if !is_own() {
        return Ok(());
    }
    for (name, value) in SETTINGS {
        write(name, value)?;
    }
    Ok(())
}

/// Shell commands that set up the namespace of a server as this one is.
pub(crate) fn shell() -> Result<String> {
    let current = congestion()?;
    let all = SETTINGS.into_iter().chain([(CONGESTION, current.as_str())]);
    Ok(all.map(|(name, value)| format!("echo '{value}' >/proc/sys/{name}\n")).collect())
}

/// What the conditions say of the set-up.
pub(crate) fn describe() -> String {
    if !is_own() {
        return "the machine's own network, as it is".into();
    }
    let setting = |(name, value): (&str, &str)| {
        format!("{} {value}", name.rsplit_once('/').map_or(name, |(_, last)| last))
    };
    SETTINGS.map(setting).join(", ")
}

/// The congestion control of new connections.
pub(crate) fn congestion() -> Result<String> {
    let path = format!("/proc/sys/{CONGESTION}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(text.trim().to_owned())
}

pub(crate) fn set_congestion(name: &str) -> Result<()> {
    write(CONGESTION, name)
}

fn write(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
}
