//! Address resolution (RFC 826): a bounded cache, requests with retries, replies.
use crate::flow::SeededMap;
use crate::link::send_packet;
use crate::port::FramePort;
use crate::slab::SlabKey;
use crate::stack::Stack;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol};

/// Most neighbours known at a time.
const NEIGHBORS_MAX: usize = 512;

/// Most resolutions under way at a time.
const PENDING_MAX: usize = 64;

/// How long an answer counts.
const LIFETIME: Duration = Duration::from_secs(60);

/// Time between requests, and how many are sent (RFC 1122, 2.3.2.1: at most one per second).
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;

/// Bytes of an ARP packet for Ethernet and IPv4.
pub(crate) const ARP_LEN: usize = 28;

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

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
    known: SeededMap<Ipv4Addr, Neighbor>,
    pending: SeededMap<Ipv4Addr, Pending>,
}

impl Neighbors {
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: crate::flow::seeded_map(seed), pending: crate::flow::seeded_map(seed) }
    }

    pub(crate) fn lookup(&self, address: Ipv4Addr, now: Instant) -> Option<[u8; 6]> {
        self.known.get(&address).filter(|n| n.expires > now).map(|n| n.mac)
    }

    /// Starts to resolve `address`, on behalf of the connection `waiting` if there is one. `false` if
    /// too many resolutions are under way.
    pub(crate) fn request(
        &mut self,
        address: Ipv4Addr,
        waiting: Option<SlabKey>,
        now: Instant,
    ) -> bool {
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
    pub(crate) fn learn(&mut self, address: Ipv4Addr, mac: [u8; 6], now: Instant) -> Vec<SlabKey> {
        if self.known.len() >= NEIGHBORS_MAX && !self.known.contains_key(&address) {
            self.evict(now);
        }
        self.known.insert(address, Neighbor { mac, expires: now + LIFETIME });
        self.pending.remove(&address).map(|p| p.waiting).unwrap_or_default()
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
    pub(crate) fn due(&self, now: Instant) -> Option<Ipv4Addr> {
        self.pending.iter().find(|(_, p)| p.next_try <= now && p.tries_left > 0).map(|(a, _)| *a)
    }

    /// Notes that the request for `address` was sent.
    pub(crate) fn requested(&mut self, address: Ipv4Addr, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&address) {
            pending.tries_left -= 1;
            pending.next_try = now + RETRY_INTERVAL;
        }
    }

    /// Gives up on one resolution that went unanswered; returns the connections that waited for it.
    pub(crate) fn give_up(&mut self, now: Instant) -> Option<Vec<SlabKey>> {
        let failed = |p: &Pending| p.tries_left == 0 && p.next_try <= now;
        let address = self.pending.iter().find(|(_, p)| failed(p)).map(|(a, _)| *a)?;
        self.pending.remove(&address).map(|p| p.waiting)
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
        destination: Ipv4Addr,
        waiting: Option<SlabKey>,
        now: Instant,
    ) -> Resolution {
        if destination.is_broadcast() || self.lease.is_some_and(|l| l.is_broadcast(destination)) {
            return Resolution::Known(BROADCAST);
        }
        let Some(hop) = self.lease.and_then(|l| l.next_hop(destination)) else {
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

    /// Takes an ARP packet.
    pub(crate) fn receive_arp(
        &mut self,
        now: Instant,
        payload: &[u8],
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let address = self.lease?.address;
        let heard = hear(payload, self.link.mac, address)?;
        for waiting in self.neighbors.learn(heard.sender, heard.sender_mac, now) {
            self.mark_dirty(waiting);
        }
        self.udp.address_learned();
        if let Some(reply) = heard.reply {
            send_packet(&self.link, port, heard.sender_mac, EthernetProtocol::Arp, &reply);
        }
        Some(())
    }

    /// Asks for the addresses that are looked for. Whether all requests found room.
    pub(crate) fn send_arp_requests(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        let Some(lease) = self.lease else { return true };
        while let Some(target) = self.neighbors.due(now) {
            let request = request(self.link.mac, lease.address, target);
            if !send_packet(&self.link, port, BROADCAST, EthernetProtocol::Arp, &request) {
                return false;
            }
            self.neighbors.requested(target, now);
        }
        true
    }
}

/// A request for the Ethernet address of `target`.
pub(crate) fn request(mac: [u8; 6], address: Ipv4Addr, target: Ipv4Addr) -> [u8; ARP_LEN] {
    emit(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: address,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    })
}

/// An ARP packet that is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) sender: Ipv4Addr,
    pub(crate) sender_mac: [u8; 6],
    /// The answer to send, if it was a request.
    pub(crate) reply: Option<[u8; ARP_LEN]>,
}

/// Reads an ARP packet; `None` unless it is well-formed and for `address`.
pub(crate) fn hear(payload: &[u8], mac: [u8; 6], address: Ipv4Addr) -> Option<Heard> {
    let packet = ArpPacket::new_checked(payload).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr: sender,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let sender_is_usable = source_hardware_addr.is_unicast()
        && !(sender.is_unspecified() || sender.is_broadcast() || sender.is_multicast());
    if target_protocol_addr != address || !sender_is_usable {
        return None;
    }
    let reply = match operation {
        ArpOperation::Request => Some(emit(ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(mac),
            source_protocol_addr: address,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: sender,
        })),
        ArpOperation::Reply => None,
        ArpOperation::Unknown(_) => return None,
    };
    Some(Heard { sender, sender_mac: source_hardware_addr.0, reply })
}

fn emit(repr: ArpRepr) -> [u8; ARP_LEN] {
    let mut bytes = [0; ARP_LEN];
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn now(s: i64) -> Instant {
        Instant::from_secs(s)
    }

    #[test]
    fn a_request_for_us_is_answered_and_the_answer_heard() {
        let heard = hear(&request(PEER_MAC, PEER, ADDRESS), MAC, ADDRESS).unwrap();
        assert_eq!((heard.sender, heard.sender_mac), (PEER, PEER_MAC));
        let answer = hear(&heard.reply.unwrap(), PEER_MAC, PEER).unwrap();
        assert_eq!(answer, Heard { sender: ADDRESS, sender_mac: MAC, reply: None });
    }

    #[test]
    fn packets_for_others_and_nonsense_are_not_heard() {
        assert_eq!(hear(&request(PEER_MAC, PEER, PEER), MAC, ADDRESS), None);
        assert_eq!(hear(&request([0xff; 6], PEER, ADDRESS), MAC, ADDRESS), None);
        assert_eq!(hear(&request(PEER_MAC, Ipv4Addr::UNSPECIFIED, ADDRESS), MAC, ADDRESS), None);
        assert_eq!(hear(&[0; 27], MAC, ADDRESS), None);
    }

    #[test]
    fn answers_expire() {
        let mut neighbors = Neighbors::new(1);
        neighbors.learn(PEER, PEER_MAC, now(0));
        assert_eq!(neighbors.lookup(PEER, now(59)), Some(PEER_MAC));
        assert_eq!(neighbors.lookup(PEER, now(60)), None);
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
        assert_eq!(neighbors.give_up(now(3)), Some(Vec::new()));
        assert_eq!(neighbors.next_deadline(), None);
    }

    #[test]
    fn the_cache_and_the_resolutions_are_bounded() {
        let mut neighbors = Neighbors::new(1);
        for n in 0..10_000 {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
            neighbors.learn(address, PEER_MAC, now(0));
            neighbors.request(address, None, now(0));
        }
        assert_eq!(neighbors.known.len(), NEIGHBORS_MAX);
        assert_eq!(neighbors.pending.len(), PENDING_MAX);
    }
}
