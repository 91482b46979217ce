//! The demultiplexer: from a frame to the one connection, socket or rule that it concerns.
use crate::connection::{Connection, Owner};
use crate::flow::Flow;
use crate::link::{Link, send_packet};
use crate::listener::Admission;
use crate::offload::{ETHERNET_LEN, checksum_is_right};
use crate::port::{FramePort, RxMeta};
use crate::progress::Progress;
use crate::slab::SlabKey;
use crate::stack::{Stack, is_unicast};
use crate::tcp::TcpError;
use crate::tombstone::Verdict;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket,
    TcpRepr, UdpPacket,
};

/// An IPv4 packet for us, with the Ethernet address that it came from.
pub(crate) struct Received<'a> {
    pub(crate) source_mac: [u8; 6],
    pub(crate) packet: &'a [u8],
    pub(crate) ip: Ipv4Packet<&'a [u8]>,
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
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.receive_arp(now, payload, port),
            EthernetProtocol::Ipv4 => {
                let received = self.check_ipv4(source_mac, payload, meta)?;
                self.receive_ipv4(now, &received, port)
            }
            _ => None,
        }
    }

    /// Reads the IP header. `None` for packets that are malformed, fragments, damaged or for others.
    fn check_ipv4<'a>(
        &self,
        source_mac: [u8; 6],
        payload: &'a [u8],
        meta: RxMeta,
    ) -> Option<Received<'a>> {
        let header = Ipv4Packet::new_checked(payload).ok()?;
        let packet = payload.get(..usize::from(header.total_len()))?;
        let ip = Ipv4Packet::new_unchecked(packet);
        let [source, destination] = [ip.src_addr(), ip.dst_addr()];
        let is_fragment = ip.more_frags() || ip.frag_offset() != 0;
        if ip.version() != 4 || is_fragment || !(is_unicast(source) || source.is_unspecified()) {
            return None;
        }
        let is_for_us = destination.is_broadcast()
            || self.any.is_some()
            || self.lease.is_some_and(|l| l.address == destination || l.is_broadcast(destination))
            // A server may send to the address that it offers (RFC 2131, 4.1).
            || (self.dhcp.is_some() && self.lease.is_none());
        let is_intact = meta.csum_valid
            || checksum_is_right(ip.next_header(), source.into(), destination.into(), ip.payload());
        (is_for_us && is_intact).then_some(Received { source_mac, packet, ip })
    }

    fn receive_ipv4(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        match received.ip.next_header() {
            IpProtocol::Tcp => self.receive_tcp(now, received, port),
            IpProtocol::Udp => self.receive_udp(now, received, port),
            _ if self.is_own_address(received) => self.receive_other(now, received, port),
            _ => None,
        }
    }

    /// Whether a packet is for the interface's own address, not just for one that it plays.
    fn is_own_address(&self, received: &Received<'_>) -> bool {
        self.lease.is_some_and(|l| l.address == received.ip.dst_addr())
    }

    /// What no socket takes: smoltcp answers echo requests, and refuses the rest where that is due.
    pub(crate) fn receive_other(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let mut link = Link::delivering(&self.link, port, received.source_mac, received.packet);
        self.interface.poll_ingress_single(now, &mut link, self.resolver.sockets());
        Some(())
    }

    fn receive_tcp(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let segment = TcpPacket::new_checked(received.ip.payload()).ok()?;
        let [source, destination] = [received.ip.src_addr(), received.ip.dst_addr()];
        let flow = Flow::new(
            (destination.into(), segment.dst_port()),
            (source.into(), segment.src_port()),
        );
        if let Some(&key) = self.flows.get(&flow) {
            // smoltcp takes it that nobody answers, or opens at the same time, before its own SYN is
            // out; a peer that guesses the flow can.
            let is_silent = self.connections.get(key).is_some_and(Connection::is_silent);
            if !is_silent {
                self.deliver(key, now, received, port);
            }
            return (!is_silent).then_some(());
        }
        if !is_unicast(source) || !self.takes_tcp_to(destination) {
            return None;
        }
        // The checksum is checked already, where it can be.
        let ignored = ChecksumCapabilities::ignored();
        let repr = TcpRepr::parse(&segment, &source.into(), &destination.into(), &ignored).ok()?;
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

    fn takes_tcp_to(&self, destination: core::net::Ipv4Addr) -> bool {
        let is_own = self.lease.is_some_and(|l| l.address == destination);
        is_own || (self.any.is_some() && is_unicast(destination))
    }

    /// A SYN of a flow that does not exist.
    fn receive_syn(
        &mut self,
        flow: Flow,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        if self.any.is_some() && !self.is_own_address(received) {
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
        let mut link = Link::delivering(&self.link, port, received.source_mac, received.packet);
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
        let [source, destination] = [received.ip.dst_addr(), received.ip.src_addr()];
        let ip = Ipv4Repr {
            src_addr: source,
            dst_addr: destination,
            next_header: IpProtocol::Tcp,
            payload_len: ack.buffer_len(),
            hop_limit: 64,
        };
        let mut packet = [0; 40];
        let checksums = ChecksumCapabilities::default();
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &checksums);
        let mut segment = TcpPacket::new_unchecked(&mut packet[20..]);
        ack.emit(&mut segment, &source.into(), &destination.into(), &checksums);
        send_packet(&self.link, port, received.source_mac, EthernetProtocol::Ipv4, &packet);
        Some(())
    }

    fn receive_udp(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        if !received.ip.verify_checksum() {
            return None;
        }
        let datagram = UdpPacket::new_checked(received.ip.payload()).ok()?;
        if self.dhcp_takes(&datagram) {
            return self.receive_dhcp(now, datagram.payload());
        }
        if self.resolver.takes(&datagram, received.ip.src_addr()) {
            return self.receive_other(now, received, port);
        }
        if self.udp_takes(received, &datagram) {
            return Some(());
        }
        if self.is_own_address(received) {
            return self.receive_other(now, received, port);
        }
        None
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
