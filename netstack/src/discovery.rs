//! Neighbour discovery at work: what the stack does about messages and when time passes (RFC 4861,
//! 7.2; RFC 4862, 5.4).
use crate::ingress::Received;
use crate::ip::Packet;
use crate::ipv6::Errand;
use crate::link::send_packet;
use crate::mld;
use crate::ndp::{
    self, ALL_NODES, ALL_ROUTERS, Message, NDP_HOP_LIMIT, NeighborAdvertisement,
    NeighborSolicitation, multicast_mac, solicited_node,
};
use crate::port::FramePort;
use crate::stack::Stack;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetProtocol, IpAddress};

impl Stack {
    /// Takes a message of neighbour discovery.
    pub(crate) fn receive_ndp(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let Packet { source: IpAddress::Ipv6(source), .. } = received.ip else { return None };
        match ndp::parse(&received.ip)? {
            Message::Advertisement(advertisement) => {
                let mtu = self.link.mtu;
                self.ipv6.advertised(source, &advertisement, mtu, now);
                if let Some(mac) = advertisement.mac {
                    self.neighbor_learned(source.into(), mac, now);
                }
                self.addresses_changed();
                Some(())
            }
            Message::Solicitation(asked) => self.receive_solicitation(now, received, asked, port),
            Message::Neighbor(told) => self.receive_advertisement(now, told),
        }
    }

    fn receive_solicitation(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        asked: NeighborSolicitation,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let Packet { source: IpAddress::Ipv6(source), .. } = received.ip else { return None };
        if !self.ipv6.is_own(asked.target) {
            return None;
        }
        let is_probe = source.is_unspecified();
        if is_probe && self.ipv6.is_tentative(asked.target) {
            // Both of us want the address, unless a switch sends our own probe back.
            return (received.source_mac != self.link.mac)
                .then(|| self.address_taken(asked.target));
        }
        if let Some(mac) = asked.source_mac.filter(|_| self.ipv6.is_on_link(source)) {
            self.neighbor_learned(source.into(), mac, now);
        }
        let answer = ndp::advertise(NeighborAdvertisement {
            target: asked.target,
            target_mac: Some(self.link.mac),
            is_solicited: !is_probe,
            // Until it is sure that the address is ours, nobody's cache is changed (RFC 4429, 3.3).
            is_override: !self.ipv6.is_tentative(asked.target),
        });
        let (destination, mac) = if is_probe {
            (ALL_NODES, multicast_mac(ALL_NODES))
        } else {
            (source, asked.source_mac.unwrap_or(received.source_mac))
        };
        let ends = [asked.target.into(), destination.into()];
        self.send_icmp(mac, ends, NDP_HOP_LIMIT, answer, port)
    }

    /// An answer to our question, or news of a neighbour that we know; of others, nothing is kept
    /// (RFC 4861, 7.2.5).
    fn receive_advertisement(&mut self, now: Instant, told: NeighborAdvertisement) -> Option<()> {
        if self.ipv6.is_own(told.target) {
            return self.ipv6.is_tentative(told.target).then(|| self.address_taken(told.target));
        }
        let target = IpAddress::from(told.target);
        let mac = told.target_mac?;
        let known = self.neighbors.lookup(target, now);
        if self.neighbors.is_pending(target) || told.is_solicited && known == Some(mac) {
            self.neighbor_learned(target, mac, now);
        } else if told.is_override {
            self.neighbors.moved(target, mac);
        }
        Some(())
    }

    /// Another machine has one of our addresses: it is its.
    fn address_taken(&mut self, address: Ipv6Addr) {
        if self.ipv6.conflict(address) {
            self.counters.addresses_lost += 1;
            self.conflict = Some(address);
            self.addresses_changed();
        }
    }

    /// Sends what is due. Whether all of it found room.
    pub(crate) fn send_discovery(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        if self.ipv6.expire(now) {
            self.addresses_changed();
        }
        while let Some(errand) = self.ipv6.errand(now) {
            let has_room = match self.errand_packet(errand) {
                Some((mac, packet)) => {
                    send_packet(&self.link, port, mac, EthernetProtocol::Ipv6, &packet)
                }
                None => true,
            };
            if !has_room {
                return false;
            }
            self.ipv6.done(errand, now);
            if self.ipv6.is_settled() {
                self.wake_configured();
            }
        }
        true
    }

    fn errand_packet(&self, errand: Errand) -> Option<([u8; 6], Vec<u8>)> {
        let own = self.ipv6.source_for(ALL_ROUTERS).unwrap_or(Ipv6Addr::UNSPECIFIED);
        match errand {
            Errand::ReportGroups => {
                // Before its address is known to be its own, a node reports without (RFC 3590, 4).
                let is_sure = !self.ipv6.is_tentative(own);
                let source = if is_sure { own } else { Ipv6Addr::UNSPECIFIED };
                mld::report(source, self.ipv6.addresses())
            }
            Errand::Probe(address) => {
                let group = solicited_node(address);
                let question = ndp::solicit(address, None);
                ndp_packet(Ipv6Addr::UNSPECIFIED, group, question)
            }
            Errand::SolicitRouters => {
                let question = ndp::solicit_routers(self.mac_of(own));
                ndp_packet(own, ALL_ROUTERS, question)
            }
        }
    }

    /// Our Ethernet address, as told together with the address `own`: not yet while that may be
    /// another's (RFC 4429, 3.3).
    fn mac_of(&self, own: Ipv6Addr) -> Option<[u8; 6]> {
        let is_sure = !own.is_unspecified() && !self.ipv6.is_tentative(own);
        is_sure.then_some(self.link.mac)
    }

    /// Asks for the Ethernet address of `target`. Whether there was room.
    pub(crate) fn send_neighbor_solicitation(
        &self,
        target: Ipv6Addr,
        port: &mut dyn FramePort,
    ) -> bool {
        let Some(own) = self.ipv6.source_for(target) else { return true };
        let question = ndp::solicit(target, self.mac_of(own));
        ndp_packet(own, solicited_node(target), question).is_none_or(|(mac, packet)| {
            send_packet(&self.link, port, mac, EthernetProtocol::Ipv6, &packet)
        })
    }
}

/// A message to a group, and the group's Ethernet address.
fn ndp_packet(source: Ipv6Addr, group: Ipv6Addr, message: Vec<u8>) -> Option<([u8; 6], Vec<u8>)> {
    let ends = [source.into(), group.into()];
    let packet = crate::icmp::packet(ends, NDP_HOP_LIMIT, message)?;
    Some((multicast_mac(group), packet))
}
