//! From a packet to the connection that it concerns.
use super::control::State;
use super::handshake::Completion;
use super::header::{Header, Options, Route};
use super::input::Answer;
use super::output::Output;
use super::segment::{Flags, Segment};
use super::sequence::Seq;
use super::{Progress, TcpError};
use crate::connection::{Connection, Owner};
use crate::flow::Flow;
use crate::ingress::Received;
use crate::port::FramePort;
use crate::slab::SlabKey;
use crate::stack::Stack;
use crate::tombstone::Verdict;
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

impl Stack {
    pub(crate) fn receive_tcp(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let (source_port, destination_port, segment) = Segment::parse(received.ip.payload)?;
        let [local, remote] = [received.ip.destination, received.ip.source];
        let flow = Flow::new((local, destination_port), (remote, source_port));
        if let Some(&key) = self.flows.get(&flow) {
            return self.deliver(key, now, &segment, received.source_mac, port);
        }
        if !remote.is_unicast() || !self.takes_tcp_to(local) {
            return None;
        }
        match self.tombstones.judge(&flow, &segment) {
            Some(Verdict::Acknowledge(end)) => {
                self.acknowledge_ended(&flow, end, received.source_mac, port);
                return Some(());
            }
            Some(Verdict::Ignore | Verdict::Forget) => return Some(()),
            Some(Verdict::New) | None => {}
        }
        if segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK) {
            if segment.flags.has(Flags::RST) || segment.flags.has(Flags::FIN) {
                return None;
            }
            if self.any.is_some() && !self.is_own(local) {
                return self.offer(flow, received.source_mac, &segment);
            }
            return self.receive_syn(flow, &segment, received, now, port);
        }
        match self.complete_handshake(&flow, &segment, received, now) {
            Completion::Established(key) => {
                self.deliver(key, now, &segment, received.source_mac, port)
            }
            Completion::Ignored => Some(()),
            Completion::Refused => self.refuse(&flow, &segment, received.source_mac, port),
        }
    }

    fn takes_tcp_to(&self, address: IpAddress) -> bool {
        self.is_own(address) || (self.any.is_some() && address.is_unicast())
    }

    /// Gives a segment to its connection.
    fn deliver(
        &mut self,
        key: SlabKey,
        now: Instant,
        segment: &Segment<'_>,
        source_mac: [u8; 6],
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let connection = self.connections.get_mut(key)?;
        // Before its own SYN is out, a connection has no peer; who guesses the flow is none.
        if connection.tcb.is_silent() {
            return None;
        }
        connection.peer_mac = Some(source_mac);
        let answer = connection.tcb.receive(segment, now, &mut self.buffers);
        connection.heard(now);
        match answer {
            Answer::Nothing => {}
            Answer::Acknowledge => {
                let flow = &connection.flow;
                let route = Route { link: &self.link, destination_mac: source_mac, flow };
                let budget = &self.buffers;
                connection.tcb.acknowledge(&mut Output { route, port, budget, now });
            }
            Answer::Reset => {
                let flow = connection.flow;
                self.refuse(&flow, segment, source_mac, port);
            }
        }
        self.heard_of(key);
        Some(())
    }

    /// Follows a connection that may have ended.
    fn heard_of(&mut self, key: SlabKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.owner == Owner::Nobody {
            let tcb = &mut connection.tcb;
            if tcb.ready_len() > 0 && tcb.state() != State::Closed {
                // Nobody will ever read it (RFC 1122, 4.2.2.13).
                tcb.fail(TcpError::NotConnected, &mut self.buffers);
            }
            if tcb.is_finished() {
                self.remove_connection(key);
                return;
            }
        }
        self.mark_dirty(key);
    }

    /// Answers a segment of no connection with a reset (RFC 9293, 3.10.7.1), if it is none itself.
    pub(crate) fn refuse(
        &self,
        flow: &Flow,
        segment: &Segment<'_>,
        source_mac: [u8; 6],
        port: &mut dyn FramePort,
    ) -> Option<()> {
        if segment.flags.has(Flags::RST) {
            return Some(());
        }
        let ack = segment.flags.has(Flags::ACK).then_some(segment.ack);
        self.send_refusal(flow, ack, segment.end(), source_mac, port);
        Some(())
    }

    /// Sends a reset for a segment that acknowledged `ack` and ended at `end`. Whether there was room.
    pub(crate) fn send_refusal(
        &self,
        flow: &Flow,
        ack: Option<Seq>,
        end: Seq,
        destination_mac: [u8; 6],
        port: &mut dyn FramePort,
    ) -> bool {
        let (seq, ack, flags) = match ack {
            Some(ack) => (ack, Seq(0), Flags::RST),
            None => (Seq(0), end, Flags::RST_ACK),
        };
        let header = Header { seq, ack, flags, window: 0, options: Options::none() };
        Route { link: &self.link, destination_mac, flow }.send_bare(port, &header)
    }

    /// Repeats the last acknowledgement of an ended connection.
    fn acknowledge_ended(
        &self,
        flow: &Flow,
        end: Progress,
        destination_mac: [u8; 6],
        port: &mut dyn FramePort,
    ) {
        let header = Header {
            seq: end.send_next,
            ack: end.receive_next,
            flags: Flags::ACK,
            window: 0,
            options: Options::none(),
        };
        Route { link: &self.link, destination_mac, flow }.send_bare(port, &header);
    }

    /// A connection of `flow` that belongs to `owner`. `None` if there are too many.
    pub(crate) fn add_connection(
        &mut self,
        flow: Flow,
        tcb: super::control::Tcb,
        owner: Owner,
    ) -> Option<SlabKey> {
        let has_room = self.connections.len() < self.connections_max;
        let connection = Connection::new(tcb, flow, owner);
        let Some(key) = has_room.then(|| self.connections.insert(connection)).flatten() else {
            self.counters.connections_refused += 1;
            return None;
        };
        self.flows.insert(flow, key);
        Some(key)
    }

    /// Forgets a connection.
    pub(crate) fn remove_connection(&mut self, key: SlabKey) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.flows.remove(&connection.flow);
        connection.tcb.release(&mut self.buffers);
    }
}
