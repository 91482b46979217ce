//! Membership in groups (RFC 3810), for switches that pass multicast frames to members only: without
//! a report, nobody behind such a switch could ask for our Ethernet address.
//!
//! The groups are those of neighbour discovery, listened to without regard to the source. They are
//! reported when they are joined and when a router asks; who leaves lets its membership run out.
use crate::icmp::report_delay;
use crate::ip::{self, IPV6_LEN, Packet};
use crate::ndp::{multicast_mac, solicited_node};
use crate::stack::Stack;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpProtocol};

/// Types of ICMPv6 messages.
pub(crate) const QUERY: u8 = 130;
const REPORT: u8 = 143;

/// To whom reports are sent (RFC 3810, 5.2.14).
pub(crate) const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// A record that says that all sources are listened to (RFC 3810, 5.2.12): CHANGE_TO_EXCLUDE_MODE.
const ANY_SOURCE: u8 = 4;

/// Longest that an answer is put off, whatever the router allows, milliseconds.
const DELAY_MS_MAX: u64 = 10_000;

/// Makes routers and switches look at the packet (RFC 2711), with the padding that the header needs.
const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

impl Stack {
    /// Takes a router's question for the groups that are listened to.
    pub(crate) fn receive_query(&mut self, now: Instant, packet: &Packet<'_>) -> Option<()> {
        let IpAddress::Ipv6(source) = packet.source else { return None };
        // A first version's query is as long as the header of all (RFC 3810, 8.1); both are answered.
        let code = packet.payload.get(4..6)?;
        if packet.hop_limit != 1 || !source.is_unicast_link_local() || packet.payload.len() < 24 {
            return None;
        }
        let millis_max = u64::from(u16::from_be_bytes([code[0], code[1]])).min(DELAY_MS_MAX);
        let delay = report_delay(self.random(), millis_max);
        self.ipv6.queried(delay, now);
        Some(())
    }
}

/// The packet that reports the groups of `addresses`, and where it is sent. `None` without groups.
pub(crate) fn report(
    source: Ipv6Addr,
    addresses: impl Iterator<Item = Ipv6Addr>,
) -> Option<([u8; 6], Vec<u8>)> {
    let mut groups: Vec<_> = addresses.map(solicited_node).collect();
    groups.sort_unstable();
    groups.dedup();
    let count = u16::try_from(groups.len()).ok().filter(|&count| count > 0)?;
    let mut message = Vec::from([REPORT, 0, 0, 0, 0, 0]);
    message.extend(count.to_be_bytes());
    for group in groups {
        message.extend([ANY_SOURCE, 0, 0, 0]);
        message.extend(group.octets());
    }
    let ends = [source.into(), ROUTERS.into()];
    let sum = ip::payload_sum(ends, IpProtocol::Icmpv6, &message);
    message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    let len = ROUTER_ALERT.len() + message.len();
    let mut packet = alloc::vec![0; IPV6_LEN + len];
    ip::emit_header(&mut packet, ends, (IpProtocol::HopByHop, 1), len)?;
    packet[IPV6_LEN..].copy_from_slice(&[&ROUTER_ALERT[..], &message].concat());
    Some((multicast_mac(ROUTERS), packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn a_report_names_each_group_once() {
        let twin = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);
        let other = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
        let (mac, bytes) = report(OWN, [OWN, twin, other].into_iter()).unwrap();
        assert_eq!(mac, [0x33, 0x33, 0, 0, 0, 0x16]);
        let packet = ip::parse_ipv6(&bytes).unwrap();
        assert_eq!((packet.protocol, packet.hop_limit), (IpProtocol::Icmpv6, 1));
        assert_eq!((packet.payload[0], &packet.payload[6..8]), (REPORT, &[0, 2][..]));
        assert_eq!(packet.payload.len(), 8 + 2 * 20);
        assert_eq!(packet.payload[12..28], solicited_node(other).octets());
        let ends = [packet.source, packet.destination];
        assert_eq!(ip::payload_sum(ends, IpProtocol::Icmpv6, packet.payload), u16::MAX);
    }

    #[test]
    fn without_groups_there_is_no_report() {
        assert_eq!(report(OWN, core::iter::empty()), None);
    }
}
