//! Messages of neighbour discovery (RFC 4861): parsed with every check that the RFC makes, and
//! written.
use crate::ip::Packet;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use smoltcp::wire::IpAddress;

/// Hop limit of all messages: a packet that passed a router cannot have it.
pub(crate) const NDP_HOP_LIMIT: u8 = 255;

/// All nodes and all routers of the link (RFC 4291, 2.7.1).
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Types of ICMPv6 messages.
pub(crate) const ROUTER_SOLICITATION: u8 = 133;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const NEIGHBOR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Options (RFC 4861, 4.6; RFC 8106, 5.1).
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const DNS_SERVERS: u8 = 25;

/// Most prefixes that one advertisement is searched for.
const PREFIXES_MAX: usize = 8;

/// A message that passed all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Advertisement(RouterAdvertisement),
    Solicitation(NeighborSolicitation),
    Neighbor(NeighborAdvertisement),
}

/// What a router says of the link and itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouterAdvertisement {
    /// How long it is a default router, seconds; 0 for not at all.
    pub(crate) lifetime: u16,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: Option<u32>,
    pub(crate) prefixes: Vec<Prefix>,
    /// A DNS server, and for how many seconds it is one.
    pub(crate) dns: Option<(Ipv6Addr, u32)>,
}

/// A prefix of the link. Lifetimes are in seconds; all ones are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) prefix: Ipv6Addr,
    pub(crate) len: u8,
    pub(crate) is_on_link: bool,
    pub(crate) is_autonomous: bool,
    pub(crate) valid: u32,
    pub(crate) preferred: u32,
}

/// A question for the Ethernet address of `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeighborSolicitation {
    pub(crate) target: Ipv6Addr,
    pub(crate) source_mac: Option<[u8; 6]>,
}

/// An answer, or news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeighborAdvertisement {
    pub(crate) target: Ipv6Addr,
    pub(crate) target_mac: Option<[u8; 6]>,
    pub(crate) is_solicited: bool,
    pub(crate) is_override: bool,
}

/// Reads the ICMPv6 message in `packet`, whose checksum is right. `None` if it is of another kind or
/// fails a check (RFC 4861, 6.1 and 7.1).
pub(crate) fn parse(packet: &Packet<'_>) -> Option<Message> {
    let [kind, code, _, _, body @ ..] = packet.payload else { return None };
    if packet.hop_limit != NDP_HOP_LIMIT || *code != 0 {
        return None;
    }
    let (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) =
        (packet.source, packet.destination)
    else {
        return None;
    };
    match *kind {
        ROUTER_ADVERTISEMENT if source.is_unicast_link_local() => {
            router_advertisement(body).map(Message::Advertisement)
        }
        NEIGHBOR_SOLICITATION => {
            let message = neighbor_solicitation(body)?;
            // Who has no address yet asks whether another has it (RFC 4861, 7.1.1).
            let is_probe = source.is_unspecified();
            let is_right = !is_probe
                || message.source_mac.is_none() && destination == solicited_node(message.target);
            is_right.then_some(Message::Solicitation(message))
        }
        NEIGHBOR_ADVERTISEMENT => {
            let message = neighbor_advertisement(body)?;
            let is_right = !(destination.is_multicast() && message.is_solicited);
            is_right.then_some(Message::Neighbor(message))
        }
        _ => None,
    }
}

fn router_advertisement(body: &[u8]) -> Option<RouterAdvertisement> {
    let (head, tail) = body.split_first_chunk::<12>()?;
    let mut message = RouterAdvertisement {
        lifetime: u16::from_be_bytes([head[2], head[3]]),
        ..RouterAdvertisement::default()
    };
    for option in options(tail)? {
        match option {
            [SOURCE_MAC, ..] => message.mac = mac(option),
            [MTU, 1, _, _, mtu @ ..] => message.mtu = u32_at(mtu, 0),
            [PREFIX, 4, ..] if message.prefixes.len() < PREFIXES_MAX => {
                message.prefixes.extend(prefix(option));
            }
            [DNS_SERVERS, _, _, _, rest @ ..] if message.dns.is_none() => {
                message.dns = address_at(rest, 4).zip(u32_at(rest, 0));
            }
            _ => {}
        }
    }
    Some(message)
}

fn neighbor_solicitation(body: &[u8]) -> Option<NeighborSolicitation> {
    let (_reserved, tail) = body.split_first_chunk::<4>()?;
    let target = address_at(tail, 0).filter(|t| !t.is_multicast())?;
    let mut message = NeighborSolicitation { target, source_mac: None };
    for option in options(&tail[16..])? {
        if option[0] == SOURCE_MAC {
            message.source_mac = Some(mac(option)?);
        }
    }
    Some(message)
}

fn neighbor_advertisement(body: &[u8]) -> Option<NeighborAdvertisement> {
    let (flags, tail) = body.split_first_chunk::<4>()?;
    let target = address_at(tail, 0).filter(|t| !t.is_multicast())?;
    let mut message = NeighborAdvertisement {
        target,
        target_mac: None,
        is_solicited: flags[0] & 0x40 != 0,
        is_override: flags[0] & 0x20 != 0,
    };
    for option in options(&tail[16..])? {
        if option[0] == TARGET_MAC {
            message.target_mac = Some(mac(option)?);
        }
    }
    Some(message)
}

/// The options, each with its type and length. `None` if one has no length or runs over the end: then
/// the whole message is to be dropped.
fn options(bytes: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let next = |rest: &mut &'_ [u8]| -> Option<usize> {
        let len = 8 * usize::from(*rest.get(1)?);
        (len > 0 && len <= rest.len()).then_some(len)
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = next(&mut rest)?;
        rest = &rest[len..];
    }
    let mut rest = bytes;
    Some(core::iter::from_fn(move || {
        let len = next(&mut rest)?;
        let (option, behind) = rest.split_at(len);
        rest = behind;
        Some(option)
    }))
}

/// The Ethernet address in an option; none that is not one machine's.
fn mac(option: &[u8]) -> Option<[u8; 6]> {
    let mac: [u8; 6] = option.get(2..8)?.try_into().ok()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

fn prefix(option: &[u8]) -> Option<Prefix> {
    let len = option[2];
    let prefix = address_at(option, 16)?;
    (len <= 128).then_some(Prefix {
        prefix,
        len,
        is_on_link: option[3] & 0x80 != 0,
        is_autonomous: option[3] & 0x40 != 0,
        valid: u32_at(option, 4)?,
        preferred: u32_at(option, 8)?,
    })
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(octets.into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The group in which whoever has `address` listens for questions (RFC 4291, 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xff02_u128 << 112 | 0x1_ff00_0000 | address.to_bits() & 0xff_ffff)
}

/// The Ethernet address of a group (RFC 2464, 7).
pub(crate) fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A question for the Ethernet address of `target`; with `mac`, the answer can come at once.
pub(crate) fn solicit(target: Ipv6Addr, mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = Vec::from([NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(target.octets());
    push_mac(&mut message, SOURCE_MAC, mac);
    message
}

/// The answer that `target` has `mac`.
pub(crate) fn advertise(advertisement: NeighborAdvertisement) -> Vec<u8> {
    let NeighborAdvertisement { target, target_mac, is_solicited, is_override } = advertisement;
    let flags = u8::from(is_solicited) << 6 | u8::from(is_override) << 5;
    let mut message = Vec::from([NEIGHBOR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
    message.extend(target.octets());
    push_mac(&mut message, TARGET_MAC, target_mac);
    message
}

/// A question for routers.
pub(crate) fn solicit_routers(mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = Vec::from([ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    push_mac(&mut message, SOURCE_MAC, mac);
    message
}

fn push_mac(message: &mut Vec<u8>, option: u8, mac: Option<[u8; 6]>) {
    if let Some(mac) = mac {
        message.extend([option, 1]);
        message.extend(mac);
    }
}

#[cfg(test)]
mod tests;
