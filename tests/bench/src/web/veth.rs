//! A server in a network namespace of its own, at the other end of a veth pair.
use super::namespace;
use crate::cpus::measured;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// The server's address.
pub(crate) const SERVER_IP: &str = "10.80.0.2";

/// This end of the pair.
pub(crate) const INTERFACE: &str = "bench0";

/// The server's end, by its name and the address of this end.
const PEER: &str = "bench1";
const CLIENT_IP: &str = "10.80.0.1";

/// The pair; it goes when this is dropped, and the namespace with the server.
#[derive(Debug)]
pub(crate) struct Veth;

impl Veth {
    /// Starts a pinned server in a new namespace.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        address: &str,
    ) -> Result<(Server, Self)> {
        // The server waits in its namespace until its end of the pair has come.
        let script = format!(
            "i=0; until [ -e /proc/sys/net/ipv4/conf/{PEER} ] || [ $i = 1000 ]; do\n\
             i=$((i + 1)); sleep .01; done; set -e\n\
             ip link set lo up; ip addr add {SERVER_IP}/24 dev {PEER}; ip link set {PEER} up\n\
             {}exec \"$@\"",
            namespace::shell()?
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script, "sh"]);
        command.args(["taskset", "-c", &measured().to_string()]).arg(program).args(arguments);
        let server = Server::spawn(command, address)?;
        wait_for_namespace(server.pid())?;
        let pid = server.pid().to_string();
        ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", PEER, "netns", &pid])?;
        let veth = Self;
        ip(&["addr", "add", &format!("{CLIENT_IP}/24"), "dev", INTERFACE])?;
        ip(&["link", "set", INTERFACE, "up"])?;
        Ok((server, veth))
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        if let Err(error) = ip(&["link", "del", INTERFACE]) {
            eprintln!("  {error:#}");
        }
    }
}

/// A process that is just being started still has this process's namespace.
fn wait_for_namespace(pid: u32) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?;
    for _ in 0..1000 {
        if fs::read_link(format!("/proc/{pid}/ns/net"))? != own {
            return Ok(());
        }
        sleep(Duration::from_millis(5));
    }
    anyhow::bail!("the server got no network namespace")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(arguments).output().context("running ip")?;
    let error = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "ip {}: {}", arguments.join(" "), error.trim());
    Ok(())
}
