//! Networks of a case's own with the guest in them.
//!
//! The guest's interface hangs at a bridge; so does the *wire*, an interface without offloads whose frames
//! the case holds in its hands. At the other end of the wire there is either the case itself, or a
//! relay to another namespace with Linux's own TCP.
use super::packet::Mac;
use super::relay::{Impairment, Relay};
use super::tap::Tap;
use crate::backend::Backend;
use crate::domain::{Domain, guest};
use crate::namespace::Namespace;
use anyhow::{Context, Result, anyhow, ensure};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Addresses of the guest, and of who is at the other end of the wire, which is its gateway, too.
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

/// The interface of Linux's end.
pub(super) const PEER_INTERFACE: &str = "peer0";

/// The guest, and the wire.
pub(super) struct Lan {
    pub(super) domain: Domain,
    pub(super) wire: Arc<Tap>,
    pub(super) namespace: Namespace,
}

impl Lan {
    /// A guest with all services.
    pub(super) fn new(backend: Backend) -> Result<Self> {
        Self::with(backend, &["server"], "ready")
    }

    /// A guest with other arguments that says `sign` when it is there.
    pub(super) fn with(backend: Backend, arguments: &[&str], sign: &str) -> Result<Self> {
        let namespace = quiet_namespace()?;
        let add: [&[&str]; 4] = [
            &["link", "add", "lan0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"],
            &["link", "set", "lan0", "up"],
            &["tuntap", "add", "dev", "guest0", "mode", "tap", "vnet_hdr"],
            &["link", "set", "guest0", "master", "lan0", "up"],
        ];
        for words in add {
            namespace.run(&[&["ip"], words].concat())?;
        }
        let wire = Arc::new(Tap::open(&namespace, "wire0")?);
        namespace.run(&["ip", "link", "set", "wire0", "master", "lan0"])?;
        let image = guest("net-surface");
        let words = ["--net", "tap=guest0", "--ip", "10.77.0.2/24", "--gateway", "10.77.0.1"];
        let words6 = ["--ip6", "fd77::2/64", "--gateway6", "fd77::1", &image, "--"];
        let words = [&words[..], &words6, arguments].concat();
        let mut domain = Domain::start_behind(&namespace.enter(), backend, &words)?;
        domain.wait_for(sign)?;
        Ok(Self { domain, wire, namespace })
    }

    /// A counter of the guest's interface: `rx_packets` are those that the guest sent.
    pub(super) fn guest_counter(&self, name: &str) -> Result<u64> {
        let links = self.namespace.run(&["ip", "-j", "-s", "link", "show", "guest0"])?;
        let links: serde_json::Value = serde_json::from_slice(&links.stdout)?;
        let (direction, counter) = name.split_once('_').unwrap_or((name, ""));
        let value = links[0]["stats64"][direction][counter].as_u64();
        value.ok_or_else(|| anyhow!("no counter {name} in {links}"))
    }

    /// The guest is asked to stop, and does so as if nothing had been.
    pub(super) fn finish(self) -> Result<()> {
        self.domain.stop()?.expect(0, &["passed"])
    }
}

/// A guest and a Linux, and a relay between them.
pub(super) struct Pair {
    pub(super) relay: Relay,
    pub(super) lan: Lan,
    pub(super) linux: Namespace,
}

impl Pair {
    /// The same impairment in both directions.
    pub(super) fn new(backend: Backend, impairment: Impairment, seed: u64) -> Result<Self> {
        Self::around(Lan::new(backend)?, impairment, seed)
    }

    /// Joins a Linux to a guest.
    pub(super) fn around(lan: Lan, impairment: Impairment, seed: u64) -> Result<Self> {
        let linux = Namespace::new()?;
        let tap = Tap::open(&linux, PEER_INTERFACE)?;
        give_addresses(&linux, PEER_INTERFACE)?;
        let relay = Relay::start(lan.wire.clone(), tap, impairment, seed);
        Ok(Self { relay, lan, linux })
    }

    /// Does several things at once on the Linux side; all have to succeed.
    pub(super) fn all(&self, work: &[&(dyn Fn() -> Result<()> + Sync)]) -> Result<()> {
        let (all, mut results) = (work.iter(), Vec::new());
        std::thread::scope(|scope| {
            let threads: Vec<_> = all.map(|f| scope.spawn(move || self.linux.inside(f))).collect();
            results.extend(threads.into_iter().map(std::thread::ScopedJoinHandle::join));
        });
        for result in results {
            let Ok(result) = result else { anyhow::bail!("a thread panicked") };
            result?;
        }
        Ok(())
    }

    /// The guest's Ethernet address, as Linux knows it.
    pub(super) fn guest_mac(&self) -> Result<Mac> {
        let neighbours = self.linux.run(&["ip", "neighbour", "show", "10.77.0.2"])?;
        let text = String::from_utf8(neighbours.stdout)?;
        let mac = text.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
        let octets = mac.unwrap_or("").split(':').map(|octet| u8::from_str_radix(octet, 16));
        let octets: Vec<u8> = octets.collect::<Result<_, _>>().with_context(|| text.clone())?;
        octets.try_into().map_err(|_| anyhow!("no Ethernet address: {text}"))
    }

    /// The guest stops as if nothing had been.
    pub(super) fn finish(self) -> Result<()> {
        self.relay.stop()?;
        self.lan.finish()
    }
}

/// Gives an interface the addresses of the guest's peer and gateway.
pub(super) fn give_addresses(namespace: &Namespace, interface: &str) -> Result<()> {
    namespace.run(&["ip", "address", "add", "10.77.0.1/24", "dev", interface])?;
    namespace.run(&["ip", "address", "add", "fd77::1/64", "dev", interface, "nodad"])?;
    Ok(())
}

/// A namespace in which the kernel says nothing by itself.
pub(super) fn quiet_namespace() -> Result<Namespace> {
    let namespace = Namespace::new()?;
    for key in ["all", "default"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6");
        // A kernel without IPv6 is as quiet.
        namespace
            .inside(|| Ok(std::fs::write(&setting, "1").or_else(|_| ok_if_absent(&setting))?))?;
    }
    Ok(namespace)
}

fn ok_if_absent(path: &str) -> std::io::Result<()> {
    match std::fs::exists(path) {
        Ok(false) => Ok(()),
        _ => Err(std::io::Error::other(format!("cannot write {path}"))),
    }
}

/// The proportional set size of a domain and its processes, bytes.
pub(super) fn resident_len(domain: &Domain) -> Result<u64> {
    let mut pids = vec![domain.pid()];
    let (mut next, mut len) = (0, 0);
    while let Some(&pid) = pids.get(next) {
        next += 1;
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib =
            rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB"));
        len += kib.map_or(Ok(0), |kib| kib.trim().parse::<u64>())? << 10;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    ensure!(next > 1 || len > 0, "no process of the domain is left");
    Ok(len)
}
