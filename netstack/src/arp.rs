//! Address resolution for IPv4 (RFC 826): requests and replies.
use crate::link::send_packet;
use crate::port::FramePort;
use crate::stack::Stack;
use core::net::Ipv4Addr;
use smoltcp::time::Instant;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol};

/// Bytes of an ARP packet for Ethernet and IPv4.
pub(crate) const ARP_LEN: usize = 28;

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

impl Stack {
    /// Takes an ARP packet.
    pub(crate) fn receive_arp(
        &mut self,
        now: Instant,
        payload: &[u8],
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let address = self.lease?.address;
        let heard = hear(payload, self.link.mac, address)?;
        if heard.is_for_us {
            self.neighbor_learned(heard.sender.into(), heard.sender_mac, now);
        } else {
            // A neighbour tells everyone where it is now (RFC 826, "merge"; RFC 5227, 3).
            self.neighbors.moved(heard.sender.into(), heard.sender_mac);
        }
        if let Some(reply) = heard.reply {
            send_packet(&self.link, port, heard.sender_mac, EthernetProtocol::Arp, &reply);
        }
        Some(())
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

/// An ARP packet that tells us something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) sender: Ipv4Addr,
    pub(crate) sender_mac: [u8; 6],
    /// It asks for our address, or answers us.
    pub(crate) is_for_us: bool,
    /// The answer to send, if it was a request for us.
    pub(crate) reply: Option<[u8; ARP_LEN]>,
}

/// Reads an ARP packet, as the machine at `address`; `None` unless it is well-formed.
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
    if !sender_is_usable {
        return None;
    }
    let is_for_us = target_protocol_addr == address;
    let reply = match operation {
        ArpOperation::Request => is_for_us.then(|| {
            emit(ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(mac),
                source_protocol_addr: address,
                target_hardware_addr: source_hardware_addr,
                target_protocol_addr: sender,
            })
        }),
        ArpOperation::Reply => None,
        ArpOperation::Unknown(_) => return None,
    };
    Some(Heard { sender, sender_mac: source_hardware_addr.0, is_for_us, reply })
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

    #[test]
    fn a_request_for_us_is_answered_and_the_answer_heard() {
        let heard = hear(&request(PEER_MAC, PEER, ADDRESS), MAC, ADDRESS).unwrap();
        assert_eq!((heard.sender, heard.sender_mac), (PEER, PEER_MAC));
        let answer = hear(&heard.reply.unwrap(), PEER_MAC, PEER).unwrap();
        assert_eq!(
            answer,
            Heard { sender: ADDRESS, sender_mac: MAC, is_for_us: true, reply: None }
        );
    }

    #[test]
    fn packets_for_others_are_not_answered() {
        let heard = hear(&request(PEER_MAC, PEER, PEER), MAC, ADDRESS).unwrap();
        assert_eq!((heard.sender, heard.is_for_us, heard.reply), (PEER, false, None));
    }

    #[test]
    fn nonsense_is_not_heard() {
        assert_eq!(hear(&request([0xff; 6], PEER, ADDRESS), MAC, ADDRESS), None);
        assert_eq!(hear(&request(PEER_MAC, Ipv4Addr::UNSPECIFIED, ADDRESS), MAC, ADDRESS), None);
        assert_eq!(hear(&[0; 27], MAC, ADDRESS), None);
    }
}
