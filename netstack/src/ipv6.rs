//! What an interface knows of IPv6: its addresses, the prefixes of its link, its routers (RFC 4861,
//! 5.1; RFC 4862).
//!
//! An address is used while it is still being checked for duplicates (RFC 4429): an appliance
//! answers milliseconds after its start, and a conflict takes the address away again. The lists are
//! bounded, as their entries come from whoever is on the link.
use crate::config::{Addressing6, Lease6};
use crate::ndp::{ALL_NODES, Prefix, RouterAdvertisement, solicited_node};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use smoltcp::time::{Duration, Instant};

/// Most addresses of the interface, the link-local one included.
pub(crate) const ADDRESSES_MAX: usize = 5;
/// Most prefixes of the link.
const PREFIXES_MAX: usize = 8;
/// Most default routers.
const ROUTERS_MAX: usize = 4;

/// Time between the messages of one series: probes for duplicates (RFC 4862, 5.1), reports of
/// membership (RFC 3810, 9.11).
const REPEAT: Duration = Duration::from_secs(1);
/// Time between solicitations of routers, and their number (RFC 4861, 10).
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
const SOLICITATIONS: u32 = 3;
/// Times that a report of membership is sent, as one may be lost (RFC 3810, 9.1).
const REPORTS: u32 = 2;

/// No advertisement makes what remains of an address's lifetime shorter than this (RFC 4862, 5.5.3 e).
const VALID_MIN: Duration = Duration::from_secs(2 * 3600);

/// A lifetime without end, seconds.
const FOREVER: u32 = u32::MAX;

/// Smallest limit that a link may have for IPv6 packets, bytes (RFC 8200, 5).
pub(crate) const MTU6_MIN: usize = 1280;

/// Whether an address may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The probe goes out at this time.
    Unprobed(Instant),
    /// In use, and probed for: nobody has objected before this time.
    Optimistic(Instant),
    /// Nobody objected.
    Ours,
    /// Another machine has it.
    Duplicate,
}

/// An address of the interface.
#[derive(Clone, Copy, Debug)]
struct Assigned {
    address: Ipv6Addr,
    standing: Standing,
    /// Until when it is used for new connections, and at all; `None` for ever.
    preferred_until: Option<Instant>,
    valid_until: Option<Instant>,
    is_deprecated: bool,
}

/// A prefix whose addresses are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OnLink {
    prefix: Ipv6Addr,
    len: u8,
    expires: Option<Instant>,
}

/// A router for all other addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Router {
    address: Ipv6Addr,
    expires: Option<Instant>,
}

/// A series of messages: when the next is due, and how many are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Series {
    next: Instant,
    left: u32,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A question whether anybody has this address.
    Probe(Ipv6Addr),
    /// A question for routers.
    SolicitRouters,
    /// The groups that are listened to.
    ReportGroups,
}

/// The state of IPv6.
#[derive(Debug)]
pub(crate) struct Ipv6 {
    addressing: Addressing6,
    interface_id: u64,
    addresses: Vec<Assigned>,
    prefixes: Vec<OnLink>,
    routers: Vec<Router>,
    /// The link's limit, where a router named one, bytes.
    mtu: Option<usize>,
    dns: Option<(Ipv6Addr, Option<Instant>)>,
    solicitations: Option<Series>,
    reports: Option<Series>,
    /// The earliest of all deadlines.
    due: Option<Instant>,
}

impl Ipv6 {
    pub(crate) fn new(addressing: Addressing6, mac: [u8; 6], now: Instant) -> Self {
        let mut ipv6 = Self {
            addressing,
            interface_id: interface_id(mac),
            addresses: Vec::new(),
            prefixes: Vec::new(),
            routers: Vec::new(),
            mtu: None,
            dns: None,
            solicitations: None,
            reports: None,
            due: None,
        };
        if addressing == Addressing6::Off {
            return ipv6;
        }
        ipv6.assign(from_prefix(LINK_LOCAL, ipv6.interface_id), [None; 2], now);
        match addressing {
            Addressing6::Static(lease) => ipv6.take_lease(lease, now),
            _ => ipv6.solicitations = Some(Series { next: now, left: SOLICITATIONS }),
        }
        ipv6.reschedule();
        ipv6
    }

    fn take_lease(&mut self, lease: Lease6, now: Instant) {
        self.assign(lease.address, [None; 2], now);
        self.prefixes.push(OnLink {
            prefix: lease.address,
            len: lease.prefix_len.min(128),
            expires: None,
        });
        self.routers.extend(lease.gateway.map(|address| Router { address, expires: None }));
        self.dns = lease.dns.map(|server| (server, None));
    }

    /// Adds an address, unless there are too many or it is none that a machine can have.
    fn assign(&mut self, address: Ipv6Addr, lifetimes: [Option<Instant>; 2], now: Instant) {
        if self.addresses.len() >= ADDRESSES_MAX || !is_unicast(address) {
            return;
        }
        let [preferred_until, valid_until] = lifetimes;
        let standing = Standing::Unprobed(now);
        let is_deprecated = preferred_until.is_some_and(|until| until <= now);
        self.addresses.push(Assigned {
            address,
            standing,
            preferred_until,
            valid_until,
            is_deprecated,
        });
        self.reports = Some(Series { next: now, left: REPORTS });
    }

    pub(crate) fn is_on(&self) -> bool {
        self.addressing != Addressing6::Off
    }

    /// The addresses in use.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.usable().map(|a| a.address)
    }

    fn usable(&self) -> impl Iterator<Item = &Assigned> {
        self.addresses.iter().filter(|a| a.standing != Standing::Duplicate)
    }

    /// Whether `address` is one of the interface's.
    pub(crate) fn is_own(&self, address: Ipv6Addr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// Whether packets for the group `address` are for this interface, too.
    pub(crate) fn is_member(&self, address: Ipv6Addr) -> bool {
        self.is_on()
            && (address == ALL_NODES || self.addresses().any(|own| solicited_node(own) == address))
    }

    /// Whether nobody had the time to object to our use of `address` yet.
    pub(crate) fn is_tentative(&self, address: Ipv6Addr) -> bool {
        let is_tentative = |s| matches!(s, Standing::Unprobed(_) | Standing::Optimistic(_));
        self.addresses.iter().any(|a| a.address == address && is_tentative(a.standing))
    }

    /// An address that machines beyond the link can answer to, the operator's first.
    pub(crate) fn global(&self) -> Option<Ipv6Addr> {
        self.addresses().find(|address| !address.is_unicast_link_local())
    }

    /// Whether nothing more is to be expected of routers at the moment.
    pub(crate) fn is_settled(&self) -> bool {
        self.solicitations.is_none()
    }

    /// The link's limit for IPv6 packets, where a router named one, bytes.
    pub(crate) fn mtu(&self) -> Option<usize> {
        self.mtu
    }

    pub(crate) fn dns(&self) -> Option<Ipv6Addr> {
        self.dns.map(|(server, _)| server)
    }

    /// The address to speak to `destination` from: one of the same scope, not deprecated, with the
    /// longest prefix in common (RFC 6724, 5, rules 2, 3 and 8).
    pub(crate) fn source_for(&self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let scope_is_link = destination.is_unicast_link_local() || destination.is_multicast();
        let preference = |a: &&Assigned| {
            let same_scope = a.address.is_unicast_link_local() == scope_is_link;
            (same_scope, !a.is_deprecated, common_len(a.address, destination))
        };
        let source = self.usable().max_by_key(preference)?.address;
        // Nobody beyond the link could answer a link-local address.
        (scope_is_link || !source.is_unicast_link_local()).then_some(source)
    }

    /// Whether `address` is a neighbour's.
    pub(crate) fn is_on_link(&self, address: Ipv6Addr) -> bool {
        let has = |p: &OnLink| common_len(p.prefix, address) >= u32::from(p.len);
        address.is_unicast_link_local() || self.prefixes.iter().any(has)
    }

    /// The neighbour that takes packets for `destination`.
    pub(crate) fn next_hop(&self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        if self.is_on_link(destination) {
            return self.is_on().then_some(destination);
        }
        self.routers.first().map(|r| r.address)
    }

    /// A neighbour does not answer: if it is the default router, it is the next one's turn.
    pub(crate) fn neighbor_lost(&mut self, address: Ipv6Addr) {
        if self.routers.first().is_some_and(|router| router.address == address) {
            self.routers.rotate_left(1);
        }
    }

    /// Another machine uses `address`. Whether it was one that was still being checked, which is then
    /// given up.
    pub(crate) fn conflict(&mut self, address: Ipv6Addr) -> bool {
        let is_probed = self.is_tentative(address);
        for assigned in self.addresses.iter_mut().filter(|a| is_probed && a.address == address) {
            assigned.standing = Standing::Duplicate;
        }
        self.reschedule();
        is_probed
    }

    /// Somebody asks for the groups that are listened to, and wants the answer within `delay`.
    pub(crate) fn queried(&mut self, delay: Duration, now: Instant) {
        if self.is_on() && self.reports.is_none() {
            self.reports = Some(Series { next: now + delay, left: 1 });
            self.reschedule();
        }
    }

    /// Takes in what the router `source` says.
    pub(crate) fn advertised(
        &mut self,
        source: Ipv6Addr,
        advertisement: &RouterAdvertisement,
        link_mtu: usize,
        now: Instant,
    ) {
        if self.addressing != Addressing6::Automatic {
            return;
        }
        self.solicitations = None;
        self.router_advertised(source, advertisement.lifetime, now);
        let mtu = advertisement.mtu.and_then(|mtu| usize::try_from(mtu).ok());
        self.mtu = mtu.filter(|mtu| (MTU6_MIN..=link_mtu).contains(mtu)).or(self.mtu);
        for prefix in &advertisement.prefixes {
            self.prefix_advertised(prefix, now);
        }
        if let Some((server, seconds)) = advertisement.dns.filter(|(s, _)| is_unicast(*s)) {
            let is_wanted = self.dns.is_none_or(|(known, _)| known == server);
            if is_wanted {
                self.dns = (seconds > 0).then_some((server, after(seconds, now)));
            }
        }
        self.reschedule();
    }

    fn router_advertised(&mut self, address: Ipv6Addr, lifetime: u16, now: Instant) {
        if lifetime == 0 {
            self.routers.retain(|r| r.address != address);
            return;
        }
        let expires = after(lifetime.into(), now);
        if let Some(router) = self.routers.iter_mut().find(|r| r.address == address) {
            router.expires = expires;
        } else if self.routers.len() < ROUTERS_MAX {
            self.routers.push(Router { address, expires });
        }
    }

    fn prefix_advertised(&mut self, prefix: &Prefix, now: Instant) {
        if prefix.prefix.is_unicast_link_local() || prefix.prefix.is_multicast() {
            return;
        }
        if prefix.is_on_link {
            self.on_link_advertised(prefix, now);
        }
        if prefix.is_autonomous && prefix.len == 64 && prefix.preferred <= prefix.valid {
            self.autonomous_advertised(prefix, now);
        }
    }

    fn on_link_advertised(&mut self, prefix: &Prefix, now: Instant) {
        let is_same = |p: &OnLink| {
            p.len == prefix.len && common_len(p.prefix, prefix.prefix) >= u32::from(p.len)
        };
        if prefix.valid == 0 {
            self.prefixes.retain(|p| !is_same(p));
            return;
        }
        let expires = after(prefix.valid, now);
        if let Some(known) = self.prefixes.iter_mut().find(|p| is_same(p)) {
            known.expires = expires;
        } else if self.prefixes.len() < PREFIXES_MAX {
            self.prefixes.push(OnLink { prefix: prefix.prefix, len: prefix.len, expires });
        }
    }

    /// Makes an address of the prefix, or renews it (RFC 4862, 5.5.3).
    fn autonomous_advertised(&mut self, prefix: &Prefix, now: Instant) {
        let address = from_prefix(prefix.prefix, self.interface_id);
        let [preferred, valid] = [prefix.preferred, prefix.valid].map(|s| after(s, now));
        let Some(known) = self.addresses.iter_mut().find(|a| a.address == address) else {
            if prefix.valid > 0 {
                self.assign(address, [preferred, valid], now);
            }
            return;
        };
        known.preferred_until = preferred;
        known.is_deprecated = prefix.preferred == 0;
        // A forged advertisement cannot end an address early, only a silent router can.
        let least = now + VALID_MIN;
        known.valid_until = match (valid, known.valid_until) {
            (None, _) => None,
            (Some(valid), _) if valid >= least => Some(valid),
            (Some(_), Some(before)) if before <= least => Some(before),
            (Some(_), _) => Some(least),
        };
    }

    /// Lets time pass. Whether the addresses are others now.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let before = self.addresses.len();
        self.addresses.retain(|a| !is_over(a.valid_until));
        self.prefixes.retain(|p| !is_over(p.expires));
        self.routers.retain(|r| !is_over(r.expires));
        self.dns = self.dns.filter(|(_, expires)| !is_over(*expires));
        for assigned in &mut self.addresses {
            if matches!(assigned.standing, Standing::Optimistic(until) if until <= now) {
                assigned.standing = Standing::Ours;
            }
            assigned.is_deprecated |= is_over(assigned.preferred_until);
        }
        self.solicitations = self.solicitations.filter(|s| s.left > 0 || s.next > now);
        self.reschedule();
        self.addresses.len() != before
    }

    /// What is to be sent now, if anything.
    pub(crate) fn errand(&self, now: Instant) -> Option<Errand> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        // Groups are joined before they are listened to for objections (RFC 4862, 5.4.2).
        if self.reports.is_some_and(|s| s.next <= now) {
            return Some(Errand::ReportGroups);
        }
        let is_due = |a: &&Assigned| matches!(a.standing, Standing::Unprobed(at) if at <= now);
        if let Some(assigned) = self.addresses.iter().find(is_due) {
            return Some(Errand::Probe(assigned.address));
        }
        let is_due = |s: Series| s.left > 0 && s.next <= now;
        self.solicitations.is_some_and(is_due).then_some(Errand::SolicitRouters)
    }

    /// Notes that an errand was done.
    pub(crate) fn done(&mut self, errand: Errand, now: Instant) {
        let next = |series: Series, interval| Series {
            next: now + interval,
            left: series.left.saturating_sub(1),
        };
        match errand {
            Errand::Probe(address) => {
                for assigned in self.addresses.iter_mut().filter(|a| a.address == address) {
                    assigned.standing = Standing::Optimistic(now + REPEAT);
                }
            }
            Errand::SolicitRouters => {
                self.solicitations = self.solicitations.map(|s| next(s, SOLICITATION_INTERVAL));
            }
            Errand::ReportGroups => {
                self.reports = self.reports.map(|s| next(s, REPEAT)).filter(|s| s.left > 0);
            }
        }
        self.reschedule();
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Finds the earliest deadline.
    fn reschedule(&mut self) {
        let standing = |a: &Assigned| match a.standing {
            Standing::Unprobed(at) | Standing::Optimistic(at) => Some(at),
            Standing::Ours | Standing::Duplicate => None,
        };
        let series = [self.solicitations, self.reports].into_iter().flatten().map(|s| s.next);
        self.due = series
            .chain(self.addresses.iter().filter_map(standing))
            .chain(self.addresses.iter().filter_map(|a| a.valid_until))
            .chain(
                self.addresses
                    .iter()
                    .filter(|a| !a.is_deprecated)
                    .filter_map(|a| a.preferred_until),
            )
            .chain(self.prefixes.iter().filter_map(|p| p.expires))
            .chain(self.routers.iter().filter_map(|r| r.expires))
            .chain(self.dns.and_then(|(_, expires)| expires))
            .min();
    }
}

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// The interface identifier of an Ethernet address (RFC 4291, appendix A).
fn interface_id([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The address with the upper half of `prefix`.
fn from_prefix(prefix: Ipv6Addr, interface_id: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() >> 64 << 64 | u128::from(interface_id))
}

fn common_len(one: Ipv6Addr, other: Ipv6Addr) -> u32 {
    (one.to_bits() ^ other.to_bits()).leading_zeros()
}

/// The end of a lifetime; `None` if it has none.
fn after(seconds: u32, now: Instant) -> Option<Instant> {
    (seconds != FOREVER).then(|| now + Duration::from_secs(seconds.into()))
}

/// Whether `address` can be that of one machine on a network. Mapped IPv4 addresses cannot
/// (RFC 4942, 2.2).
pub(crate) fn is_unicast(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests;
