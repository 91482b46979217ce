//! The demultiplexer: from a frame to the one connection, socket or rule that it concerns.
use crate::icmp::Untaken;
use crate::ip::{Packet, parse_ipv4, parse_ipv6};
use crate::ipv6;
use crate::offload::{ETHERNET_LEN, checksum_is_right};
use crate::port::{FramePort, RxMeta};
use crate::stack::{Stack, is_unicast};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, UdpPacket};

/// An IP packet for us, with the Ethernet address that it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) source_mac: [u8; 6],
    /// The frame was for a group of machines.
    pub(crate) is_group: bool,
    pub(crate) ip: Packet<'a>,
}

impl Stack {
    /// Takes one Ethernet frame, which may be a merged one of up to 64 KiB. Immediate answers are
    /// written to `port` if it has room and are lost otherwise, as the protocols allow; everything
    /// else waits for [`poll`](Self::poll).
    pub fn receive(&mut self, now: Instant, frame: &[u8], meta: RxMeta, port: &mut dyn FramePort) {
        self.now = now;
        self.counters.frames_received += 1;
        if self.receive_frame(now, frame, meta, port).is_none() {
            self.counters.frames_dropped += 1;
        }
    }

    fn receive_frame(
        &mut self,
        now: Instant,
        frame: &[u8],
        meta: RxMeta,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let destination = ethernet.dst_addr();
        if destination.0 != self.link.mac && destination.is_unicast() {
            return None;
        }
        let source_mac = Some(ethernet.src_addr()).filter(|mac| mac.is_unicast())?.0;
        let payload = &frame[ETHERNET_LEN..];
        let is_group = !destination.is_unicast();
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.receive_arp(now, payload, port),
            EthernetProtocol::Ipv4 => {
                let received = Received { source_mac, is_group, ip: parse_ipv4(payload)? };
                self.receive_ip(now, &received, meta, port)
            }
            EthernetProtocol::Ipv6 if self.ipv6.is_on() => match parse_ipv6(payload) {
                Ok(ip) => self.receive_ip(now, &Received { source_mac, is_group, ip }, meta, port),
                Err((refusal, ip)) => {
                    let received = Received { source_mac, is_group, ip: ip? };
                    self.report_problem(refusal, &received, now, port)
                }
            },
            _ => None,
        }
    }

    /// Whether a packet comes from where one can come from, and is for us.
    fn is_for_us(&self, ip: &Packet<'_>) -> bool {
        match (ip.source, ip.destination) {
            (IpAddress::Ipv4(source), IpAddress::Ipv4(destination)) => {
                let is_possible = is_unicast(source) || source.is_unspecified();
                is_possible
                    && (destination.is_broadcast()
                        || self.any.is_some()
                        || self.lease.is_some_and(|lease| {
                            lease.address == destination || lease.is_broadcast(destination)
                        })
                        // A server may send to the address that it offers (RFC 2131, 4.1).
                        || (self.dhcp.is_some() && self.lease.is_none()))
            }
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                // Without an address, there is nothing to say but to ask for one.
                let is_possible = ipv6::is_unicast(source)
                    || source.is_unspecified() && ip.protocol == IpProtocol::Icmpv6;
                is_possible
                    && (self.ipv6.is_own(destination)
                        || self.ipv6.is_member(destination)
                        || (self.any.is_some() && ipv6::is_unicast(destination)))
            }
            _ => false,
        }
    }

    fn receive_ip(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        meta: RxMeta,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let ip = &received.ip;
        let is_intact = meta.csum_valid
            || checksum_is_right(ip.protocol, ip.source, ip.destination, ip.payload);
        if !is_intact || !self.is_for_us(ip) {
            return None;
        }
        let is_own = self.is_own(ip.destination);
        match (ip.protocol, ip.destination) {
            (IpProtocol::Tcp, _) => self.receive_tcp(now, received, port),
            (IpProtocol::Udp, _) => self.receive_udp(now, received, port),
            (IpProtocol::Icmp, IpAddress::Ipv4(_)) if is_own => self.receive_icmpv4(received, port),
            (IpProtocol::Icmpv6, IpAddress::Ipv6(address)) if is_own || address.is_multicast() => {
                self.receive_icmpv6(now, received, port)
            }
            _ => self.refuse_packet(Untaken::Protocol, received, now, port),
        }
    }

    /// Whether `address` is one of the interface's own, not just one that it plays.
    pub(crate) fn is_own(&self, address: IpAddress) -> bool {
        match address {
            IpAddress::Ipv4(address) => self.lease.is_some_and(|l| l.address == address),
            IpAddress::Ipv6(address) => self.ipv6.is_own(address),
        }
    }

    fn receive_udp(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let datagram = UdpPacket::new_checked(received.ip.payload).ok()?;
        if self.dhcp_takes(received, &datagram) {
            return self.receive_dhcp(now, datagram.payload());
        }
        if self.resolver.takes(&datagram, received.ip.source) {
            return self.resolver.receive(now, &datagram);
        }
        if self.udp_takes(received, &datagram) {
            return Some(());
        }
        self.refuse_packet(Untaken::Port, received, now, port)
    }
}
