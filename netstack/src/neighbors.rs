//! Which Ethernet address a neighbour has: a bounded cache for both families, filled by ARP
//! (RFC 826) and neighbour discovery (RFC 4861), and the questions that are under way.
//!
//! An answer counts for a minute and is then asked for anew. That stands in for the probing of
//! RFC 4861, 7.3: connections do not depend on the cache, as each remembers where its peer's last
//! frame came from, and looks here when that one does not answer.
use crate::arp;
use crate::flow::{SeededMap, seeded_map};
use crate::link::send_packet;
use crate::ndp;
use crate::port::FramePort;
use crate::slab::SlabKey;
use crate::stack::Stack;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetProtocol, IpAddress};

/// Most neighbours known at a time.
const NEIGHBORS_MAX: usize = 512;

/// Most resolutions under way at a time.
const PENDING_MAX: usize = 64;

/// How long an answer counts.
const LIFETIME: Duration = Duration::from_secs(60);

/// Time between requests, and how many are sent (RFC 1122, 2.3.2.1: at most one per second; RFC 4861,
/// 10: MAX_MULTICAST_SOLICIT).
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;

#[derive(Clone, Copy, Debug)]
struct Neighbor {
    mac: [u8; 6],
    expires: Instant,
}

#[derive(Debug)]
struct Pending {
    next_try: Instant,
    tries_left: u32,
    waiting: Vec<SlabKey>,
}

/// Who has which Ethernet address.
#[derive(Debug)]
pub(crate) struct Neighbors {
    known: SeededMap<IpAddress, Neighbor>,
    pending: SeededMap<IpAddress, Pending>,
}

impl Neighbors {
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: seeded_map(seed), pending: seeded_map(seed) }
    }

    pub(crate) fn lookup(&self, address: IpAddress, now: Instant) -> Option<[u8; 6]> {
        self.known.get(&address).filter(|n| n.expires > now).map(|n| n.mac)
    }

    /// Starts to resolve `address`, on behalf of the connection `waiting` if there is one. `false` if
    /// too many resolutions are under way.
    fn request(&mut self, address: IpAddress, waiting: Option<SlabKey>, now: Instant) -> bool {
        if self.pending.len() >= PENDING_MAX && !self.pending.contains_key(&address) {
            return false;
        }
        let pending = self.pending.entry(address).or_insert_with(|| Pending {
            next_try: now,
            tries_left: TRIES,
            waiting: Vec::new(),
        });
        pending.waiting.extend(waiting);
        true
    }

    /// Notes an answer; returns the connections that waited for it.
    fn learn(&mut self, address: IpAddress, mac: [u8; 6], now: Instant) -> Vec<SlabKey> {
        if self.known.len() >= NEIGHBORS_MAX && !self.known.contains_key(&address) {
            self.evict(now);
        }
        self.known.insert(address, Neighbor { mac, expires: now + LIFETIME });
        self.pending.remove(&address).map(|p| p.waiting).unwrap_or_default()
    }

    /// Whether `address` is asked for at the moment.
    pub(crate) fn is_pending(&self, address: IpAddress) -> bool {
        self.pending.contains_key(&address)
    }

    /// A known neighbour says that it has moved to `mac`. Unlike an answer, that does not make it
    /// known for longer.
    pub(crate) fn moved(&mut self, address: IpAddress, mac: [u8; 6]) {
        if let Some(neighbor) = self.known.get_mut(&address) {
            neighbor.mac = mac;
        }
    }

    /// Makes room: what has expired goes, or else what expires first.
    fn evict(&mut self, now: Instant) {
        self.known.retain(|_, neighbor| neighbor.expires > now);
        if self.known.len() >= NEIGHBORS_MAX
            && let Some(oldest) = self.known.iter().min_by_key(|(_, n)| n.expires).map(|(a, _)| *a)
        {
            self.known.remove(&oldest);
        }
    }

    /// A request that is due now, if any.
    fn due(&self, now: Instant) -> Option<IpAddress> {
        self.pending.iter().find(|(_, p)| p.next_try <= now && p.tries_left > 0).map(|(a, _)| *a)
    }

    /// Notes that the request for `address` was sent.
    fn requested(&mut self, address: IpAddress, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&address) {
            pending.tries_left -= 1;
            pending.next_try = now + RETRY_INTERVAL;
        }
    }

    /// Gives up on one resolution that went unanswered; returns the address, and the connections that
    /// waited for it.
    pub(crate) fn give_up(&mut self, now: Instant) -> Option<(IpAddress, Vec<SlabKey>)> {
        let failed = |p: &Pending| p.tries_left == 0 && p.next_try <= now;
        let address = self.pending.iter().find(|(_, p)| failed(p)).map(|(a, _)| *a)?;
        self.pending.remove(&address).map(|p| (address, p.waiting))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().map(|p| p.next_try).min()
    }
}

/// What is known about the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Known([u8; 6]),
    Pending,
    Unreachable,
}

impl Stack {
    /// Where to send packets for `destination`.
    pub(crate) fn resolve_mac(
        &mut self,
        destination: IpAddress,
        waiting: Option<SlabKey>,
        now: Instant,
    ) -> Resolution {
        if let Some(mac) = self.group_mac(destination) {
            return Resolution::Known(mac);
        }
        let Some(hop) = self.next_hop(destination) else {
            return Resolution::Unreachable;
        };
        if let Some(mac) = self.neighbors.lookup(hop, now) {
            return Resolution::Known(mac);
        }
        if self.neighbors.request(hop, waiting, now) {
            Resolution::Pending
        } else {
            Resolution::Unreachable
        }
    }

    /// The Ethernet address of a group of machines, if `destination` is one.
    fn group_mac(&self, destination: IpAddress) -> Option<[u8; 6]> {
        match destination {
            IpAddress::Ipv4(address) => {
                let is_all = |address: Ipv4Addr| {
                    address.is_broadcast() || self.lease.is_some_and(|l| l.is_broadcast(address))
                };
                is_all(address).then_some(arp::BROADCAST)
            }
            IpAddress::Ipv6(address) => address.is_multicast().then(|| ndp::multicast_mac(address)),
        }
    }

    /// The neighbour that takes packets for `destination`.
    fn next_hop(&self, destination: IpAddress) -> Option<IpAddress> {
        match destination {
            IpAddress::Ipv4(address) => self.lease?.next_hop(address).map(Into::into),
            IpAddress::Ipv6(address) => self.ipv6.next_hop(address).map(Into::into),
        }
    }

    /// Takes in that `address` has the Ethernet address `mac`, and lets go on what waited for it.
    pub(crate) fn neighbor_learned(&mut self, address: IpAddress, mac: [u8; 6], now: Instant) {
        for waiting in self.neighbors.learn(address, mac, now) {
            self.mark_dirty(waiting);
        }
        self.udp.address_learned();
    }

    /// Asks for the addresses that are looked for. Whether all requests found room.
    pub(crate) fn send_solicitations(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        while let Some(target) = self.neighbors.due(now) {
            let has_room = match target {
                IpAddress::Ipv4(target) => self.lease.is_none_or(|lease| {
                    let request = arp::request(self.link.mac, lease.address, target);
                    send_packet(&self.link, port, arp::BROADCAST, EthernetProtocol::Arp, &request)
                }),
                IpAddress::Ipv6(target) => self.send_neighbor_solicitation(target, port),
            };
            if !has_room {
                return false;
            }
            self.neighbors.requested(target, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const PEER: IpAddress = IpAddress::v4(10, 0, 0, 2);
    const PEER6: IpAddress = IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    fn now(s: i64) -> Instant {
        Instant::from_secs(s)
    }

    #[test]
    fn answers_expire() {
        let mut neighbors = Neighbors::new(1);
        for peer in [PEER, PEER6] {
            neighbors.learn(peer, MAC, now(0));
            assert_eq!(neighbors.lookup(peer, now(59)), Some(MAC));
            assert_eq!(neighbors.lookup(peer, now(60)), None);
        }
    }

    #[test]
    fn a_move_is_followed_but_does_not_prolong() {
        let mut neighbors = Neighbors::new(1);
        neighbors.moved(PEER6, MAC);
        assert_eq!(neighbors.lookup(PEER6, now(0)), None);
        neighbors.learn(PEER6, MAC, now(0));
        neighbors.moved(PEER6, [4; 6]);
        assert_eq!(neighbors.lookup(PEER6, now(59)), Some([4; 6]));
        assert_eq!(neighbors.lookup(PEER6, now(60)), None);
    }

    #[test]
    fn three_requests_then_silence_is_failure() {
        let mut neighbors = Neighbors::new(1);
        assert!(neighbors.request(PEER, None, now(0)));
        for second in 0..3 {
            assert_eq!(neighbors.due(now(second)), Some(PEER));
            neighbors.requested(PEER, now(second));
            assert_eq!(neighbors.due(now(second)), None);
        }
        assert_eq!(neighbors.give_up(now(2)), None);
        assert_eq!(neighbors.give_up(now(3)), Some((PEER, Vec::new())));
        assert_eq!(neighbors.next_deadline(), None);
    }

    #[test]
    fn the_cache_and_the_resolutions_are_bounded() {
        let mut neighbors = Neighbors::new(1);
        for n in 0..10_000 {
            let address = match n % 2 {
                0 => Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
                _ => core::net::Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)).into(),
            };
            neighbors.learn(address, MAC, now(0));
            neighbors.request(address, None, now(0));
        }
        assert_eq!(neighbors.known.len(), NEIGHBORS_MAX);
        assert_eq!(neighbors.pending.len(), PENDING_MAX);
    }
}
