//! The demultiplexer: from a frame to the one connection, socket or rule that it concerns.
use crate::connection::{Connection, Owner};
use crate::flow::Flow;
use crate::icmp::Untaken;
use crate::ip::{self, HOP_LIMIT, Packet, parse_ipv4, parse_ipv6};
use crate::ipv6;
use crate::link::{Link, ethertype, send_packet};
use crate::listener::Admission;
use crate::offload::{ETHERNET_LEN, checksum_is_right};
use crate::port::{FramePort, RxMeta};
use crate::progress::Progress;
use crate::slab::SlabKey;
use crate::stack::{Stack, is_unicast};
use crate::tcp::TcpError;
use crate::tombstone::Verdict;
use smoltcp::iface::SocketSet;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr,
    UdpPacket,
};

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

    /// What smoltcp answers for no connection: resets.
    pub(crate) fn receive_other(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let mut link = Link::delivering(&self.link, port, received.source_mac, received.ip.bytes);
        let mut no_sockets = SocketSet::new(alloc::vec::Vec::new());
        self.interface.poll_ingress_single(now, &mut link, &mut no_sockets);
        Some(())
    }

    fn receive_tcp(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let segment = TcpPacket::new_checked(received.ip.payload).ok()?;
        let Packet { source, destination, .. } = received.ip;
        let flow = Flow::new((destination, segment.dst_port()), (source, segment.src_port()));
        if let Some(&key) = self.flows.get(&flow) {
            // smoltcp takes it that nobody answers, or opens at the same time, before its own SYN is
            // out; a peer that guesses the flow can.
            let is_silent = self.connections.get(key).is_some_and(Connection::is_silent);
            if !is_silent {
                self.deliver(key, now, received, port);
            }
            return (!is_silent).then_some(());
        }
        if source.is_unspecified() || !self.takes_tcp_to(destination) {
            return None;
        }
        // The checksum is checked already, where it can be.
        let ignored = ChecksumCapabilities::ignored();
        let repr = TcpRepr::parse(&segment, &source, &destination, &ignored).ok()?;
        match self.tombstones.judge(&flow, &repr) {
            Some(Verdict::Acknowledge(end)) => {
                return self.acknowledge(&flow, end, received, port);
            }
            Some(Verdict::Ignore | Verdict::Forget) => return Some(()),
            Some(Verdict::New) | None => {}
        }
        if repr.control == TcpControl::Syn && repr.ack_number.is_none() {
            self.receive_syn(flow, now, received, port)
        } else {
            self.receive_other(now, received, port)
        }
    }

    fn takes_tcp_to(&self, destination: IpAddress) -> bool {
        self.is_own(destination) || (self.any.is_some() && destination.is_unicast())
    }

    /// A SYN of a flow that does not exist.
    fn receive_syn(
        &mut self,
        flow: Flow,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        if self.any.is_some() && !self.is_own(received.ip.destination) {
            return self.offer(flow, received);
        }
        match self.listeners.admit(flow.local.port, now) {
            Admission::Refused => self.receive_other(now, received, port),
            Admission::Later => None,
            Admission::Admitted { listener, ordinal, evicted } => {
                if let Some(evicted) = evicted {
                    self.counters.half_open_dropped += 1;
                    self.remove_connection(evicted);
                }
                let owner = Owner::Backlog(listener, ordinal);
                let Some(key) = self.open(flow, owner) else {
                    return self.receive_other(now, received, port);
                };
                self.listeners.add(listener, ordinal, key, now);
                self.deliver(key, now, received, port);
                Some(())
            }
        }
    }

    /// Adds a connection that listens for one SYN of `flow`. `None` if there are too many.
    pub(crate) fn open(&mut self, flow: Flow, owner: Owner) -> Option<SlabKey> {
        let has_room = self.connections.len() < self.connections_max;
        let Some(key) = has_room.then(|| self.add_connection(flow, owner)).flatten() else {
            self.counters.connections_refused += 1;
            return None;
        };
        let connection = self.connections.get_mut(key)?;
        // Cannot fail: the socket is new and the port is not 0, or the peer's own SYN is at fault.
        if connection.socket_mut().listen(flow.local).is_err() {
            self.remove_connection(key);
            return None;
        }
        Some(key)
    }

    /// Gives a packet to its connection.
    pub(crate) fn deliver(
        &mut self,
        key: SlabKey,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.peer_mac = Some(received.source_mac);
        let before = connection.socket().state();
        let mut link = Link::delivering(&self.link, port, received.source_mac, received.ip.bytes);
        link.progress = connection.progress;
        self.interface.poll_ingress_single(now, &mut link, &mut connection.sockets);
        connection.progress = link.progress;
        connection.heard(now);
        if before != State::Established || connection.socket().state() != State::Established {
            self.state_changed(key, before);
        }
        self.mark_dirty(key);
    }

    /// Follows a connection that may have changed its state from `before`.
    fn state_changed(&mut self, key: SlabKey, before: State) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let state = connection.socket().state();
        if state == State::Closed {
            connection.failure = connection.failure.or(failure_of(before));
        }
        if connection.owner == Owner::Nobody && connection.socket().recv_queue() > 0 {
            connection.fail(TcpError::NotConnected); // Nobody will ever read it (RFC 1122, 4.2.2.13).
        }
        if let Owner::Backlog(listener, ordinal) = connection.owner {
            follow_handshake(connection, state);
            if connection.owner == Owner::Queue {
                self.listeners.establish(listener, ordinal);
            }
        }
        if let Some(connection) = self.connections.get(key)
            && matches!(connection.owner, Owner::Backlog(..) | Owner::Nobody)
            && connection.is_finished()
        {
            self.remove_connection(key);
        }
    }

    /// Repeats the last acknowledgement of an ended connection.
    fn acknowledge(
        &mut self,
        flow: &Flow,
        end: Progress,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let ack = TcpRepr {
            src_port: flow.local.port,
            dst_port: flow.remote.port,
            control: TcpControl::None,
            seq_number: end.send_next,
            ack_number: Some(end.receive_next),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ends = [received.ip.destination, received.ip.source];
        let mut packet = alloc::vec![0; ip::header_len(ends[0]) + ack.buffer_len()];
        let protocol = (IpProtocol::Tcp, HOP_LIMIT);
        let start = ip::emit_header(&mut packet, ends, protocol, ack.buffer_len())?;
        let mut segment = TcpPacket::new_unchecked(&mut packet[start..]);
        ack.emit(&mut segment, &ends[0], &ends[1], &ChecksumCapabilities::default());
        send_packet(&self.link, port, received.source_mac, ethertype(ends[0]), &packet);
        Some(())
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
            return self.resolver.receive(&datagram);
        }
        if self.udp_takes(received, &datagram) {
            return Some(());
        }
        self.refuse_packet(Untaken::Port, received, now, port)
    }
}

/// Why a connection that was in state `before` is closed all of a sudden.
fn failure_of(before: State) -> Option<TcpError> {
    match before {
        State::SynSent => Some(TcpError::Refused),
        State::LastAck | State::Closed | State::TimeWait | State::Closing => None,
        _ => Some(TcpError::Reset),
    }
}

/// A half-open connection that is established may be accepted.
fn follow_handshake(connection: &mut Connection, state: State) {
    if !matches!(state, State::Listen | State::SynReceived | State::Closed) {
        connection.owner = Owner::Queue;
    }
}
