//! Paths on which not every packet fits through.
use super::lan::{Lan, Pair, quiet_namespace};
use super::relay::Impairment;
use super::services::{DIGEST, download, upload};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use crate::namespace::Namespace;
use anyhow::{Context, Result, ensure};

const LEN: usize = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("path-mtu-of-1280", |backend| behind_router(backend, "1280")),
        case("path-mtu-of-600", |backend| behind_router(backend, "600")),
        case("path-mtu-of-a-black-hole", black_hole),
    ]
}

/// A Linux behind a router, with a narrow link between them. It claims to take what an ordinary link takes,
/// as a peer does whose own link is one.
fn far_linux(router: &Namespace, mtu: &str) -> Result<Namespace> {
    let linux = quiet_namespace()?;
    let add = ["ip", "link", "add", "far0", "mtu", mtu, "type", "veth", "peer", "name", "near0"];
    linux.run(&[&add[..], &["mtu", mtu, "netns", router.name()]].concat())?;
    linux.run(&["ip", "address", "add", "10.78.0.2/24", "dev", "far0"])?;
    linux.run(&["ip", "link", "set", "far0", "up"])?;
    linux.run(&["ip", "route", "add", "default", "via", "10.78.0.1", "advmss", "1460"])?;
    router.run(&["ip", "address", "add", "10.77.0.1/24", "dev", "lan0"])?;
    router.run(&["ip", "address", "add", "10.78.0.1/24", "dev", "near0"])?;
    router.run(&["ip", "link", "set", "near0", "up"])?;
    router.inside(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
    Ok(linux)
}

/// The router says that packets are too long (RFC 1191), and the guest sends shorter ones.
fn behind_router(backend: Backend, mtu: &str) -> Result<()> {
    let lan = Lan::new(backend)?;
    let linux = far_linux(&lan.namespace, mtu)?;
    linux.inside(|| {
        download(LEN)?;
        upload(DIGEST, LEN)?;
        download(LEN)
    })?;
    ensure!(unreachables_sent(&lan.namespace)? > 0, "no packet was too long");
    lan.finish()
}

/// How often the kernel of the namespace said that something cannot be reached.
fn unreachables_sent(namespace: &Namespace) -> Result<u64> {
    let counters =
        namespace.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let names = lines.next().context("names of the ICMP counters")?.split(' ');
    let values = lines.next().context("values of the ICMP counters")?.split(' ');
    let found = names.zip(values).find(|(name, _)| *name == "OutDestUnreachs");
    Ok(found.context("the counter")?.1.parse()?)
}

/// Long packets vanish without a word (RFC 2923, 2.1).
fn black_hole(backend: Backend) -> Result<()> {
    let narrow = Impairment { packet_len_max: Some(1000), ..Impairment::default() };
    let pair = Pair::new(backend, narrow, 1)?;
    pair.all(&[&|| download(LEN / 4)])?;
    pair.finish()
}
