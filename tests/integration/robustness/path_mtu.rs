//! Paths on which not every packet fits through.
use super::lan::{Lan, Pair};
use super::relay::Impairment;
use super::services::{DIGEST, Family, Family::V4, Family::V6, download, upload};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use crate::namespace::Namespace;
use anyhow::{Context, Result, ensure};

const LEN: usize = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("path-mtu-of-1280", |backend| behind_router(backend, "1280", V4)),
        case("path-mtu-of-600", |backend| behind_router(backend, "600", V4)),
        case("path-mtu-of-1280-ipv6", |backend| behind_router(backend, "1280", V6)),
        case("path-mtu-of-a-black-hole", |backend| black_hole(backend, V4, 1000)),
        case("path-mtu-of-a-black-hole-ipv6", |backend| black_hole(backend, V6, 1280)),
    ]
}

/// A Linux behind a router, with a narrow link between them. It claims to take what an ordinary link takes,
/// as a peer does whose own link is one.
fn far_linux(router: &Namespace, mtu: &str, family: Family) -> Result<Namespace> {
    let linux = Namespace::new()?;
    let add = ["ip", "link", "add", "far0", "mtu", mtu, "type", "veth", "peer", "name", "near0"];
    linux.run(&[&add[..], &["mtu", mtu, "netns", router.name()]].concat())?;
    router.inside(|| allow(family))?;
    let net = if family == V4 { NET4 } else { NET6 };
    let flags: &[&str] = if family == V4 { &[] } else { &["nodad"] };
    for (namespace, address, interface) in
        [(&linux, net.far, "far0"), (router, net.near, "near0"), (router, net.gateway, "lan0")]
    {
        let add = ["ip", "address", "add", address, "dev", interface];
        namespace.run(&[&add, flags].concat())?;
        namespace.run(&["ip", "link", "set", interface, "up"])?;
    }
    linux.run(&["ip", "route", "add", "default", "via", net.via, "advmss", "1440"])?;
    Ok(linux)
}

/// Addresses of the far Linux, of the router on its side and on the guest's.
struct Net {
    far: &'static str,
    near: &'static str,
    via: &'static str,
    gateway: &'static str,
}

const NET4: Net =
    Net { far: "10.78.0.2/24", near: "10.78.0.1/24", via: "10.78.0.1", gateway: "10.77.0.1/24" };
const NET6: Net =
    Net { far: "fd78::2/64", near: "fd78::1/64", via: "fd78::1", gateway: "fd77::1/64" };

/// Lets the namespace that the thread is in forward packets.
fn allow(family: Family) -> Result<()> {
    let settings: &[(&str, &str)] = match family {
        V4 => &[("ipv4/ip_forward", "1")],
        V6 => &[("ipv6/conf/all/disable_ipv6", "0"), ("ipv6/conf/all/forwarding", "1")],
    };
    for (key, value) in settings {
        std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| (*key).to_owned())?;
    }
    Ok(())
}

/// The router says that packets are too long (RFC 1191, RFC 8201), and the guest sends shorter ones.
fn behind_router(backend: Backend, mtu: &str, family: Family) -> Result<()> {
    let lan = Lan::new(backend)?;
    let linux = far_linux(&lan.namespace, mtu, family)?;
    linux.inside(|| {
        download(family, LEN)?;
        upload(family, DIGEST, LEN)?;
        download(family, LEN)
    })?;
    let complaints = lan.namespace.inside(|| complaints(family))?;
    ensure!(complaints > 0, "no packet was too long");
    lan.finish()
}

/// How often the kernel of the namespace that the thread is in said that a packet was too long; for IPv4,
/// that something cannot be reached, which is the same message.
fn complaints(family: Family) -> Result<u64> {
    let value = match family {
        V4 => {
            let counters = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
            let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Icmp: "));
            let names = lines.next().context("names of the ICMP counters")?.split(' ');
            let values = lines.next().context("values of the ICMP counters")?.split(' ');
            let found = names.zip(values).find(|(name, _)| *name == "OutDestUnreachs");
            found.map(|(_, value)| value.to_owned())
        }
        V6 => {
            let counters = std::fs::read_to_string("/proc/thread-self/net/snmp6")?;
            let found = counters.lines().find_map(|line| line.strip_prefix("Icmp6OutPktTooBigs"));
            found.map(|value| value.trim().to_owned())
        }
    };
    Ok(value.context("the counter")?.parse()?)
}

/// Long packets vanish without a word (RFC 2923, 2.1).
fn black_hole(backend: Backend, family: Family, packet_len_max: usize) -> Result<()> {
    let packet_len_max = Some(packet_len_max);
    let narrow = Impairment { packet_len_max, ..Impairment::default() };
    let pair = Pair::new(backend, narrow, 1)?;
    pair.all(&[&|| download(family, LEN / 4)])?;
    let Pair { relay, lan, .. } = pair;
    ensure!(relay.stop()?[0].too_long > 0, "no packet was too long");
    lan.finish()
}
