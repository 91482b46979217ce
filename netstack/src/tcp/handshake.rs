//! Connections that peers open: a small record until the handshake is complete, or none at all.
use super::control::{Agreed, Opening, PeerSyn, RECEIVE_LIMIT_START, Tcb, Timestamps};
use super::header::{Header, Options, Route};
use super::segment::{Flags, Segment, SynOptions, WINDOW_SHIFT_MAX};
use super::sequence::Seq;
use super::{cookie, output};
use crate::connection::Owner;
use crate::flow::{Flow, SeededMap, seeded_map};
use crate::ingress::Received;
use crate::listener::{Admission, ListenerId};
use crate::port::FramePort;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use crate::timer::{Deadline, TimerHeap};
use alloc::vec::Vec;
use smoltcp::time::{Duration, Instant};

/// How long after the first SYN the answer goes again, and then the peer is forgotten.
const RETRIES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];
const LIFETIME: Duration = Duration::from_secs(10);

/// A connection of which the peer's SYN was answered.
#[derive(Debug)]
struct HalfOpen {
    flow: Flow,
    listener: ListenerId,
    peer_mac: [u8; 6],
    isn: Seq,
    peer: PeerSyn,
    /// The window that the answer gave, bytes.
    promised: u16,
    since: Instant,
    /// How often the answer went again.
    retries: u8,
    deadline: Deadline,
}

/// The half-open connections of all listeners.
#[derive(Debug)]
pub(crate) struct HalfOpens {
    slab: Slab<HalfOpen>,
    by_flow: SeededMap<Flow, SlabKey>,
    timers: TimerHeap,
}

impl HalfOpens {
    pub(crate) fn new(seed: u64) -> Self {
        let (slab, timers) = (Slab::new(), TimerHeap::default());
        Self { slab, by_flow: seeded_map(seed), timers }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn add(&mut self, half_open: HalfOpen, due: Instant) {
        let flow = half_open.flow;
        let Some(key) = self.slab.insert(half_open) else { return };
        self.by_flow.insert(flow, key);
        self.set_timer(key, due);
    }

    fn set_timer(&mut self, key: SlabKey, due: Instant) {
        if let Some(half_open) = self.slab.get_mut(key) {
            self.timers.set(key, &mut half_open.deadline, Some(due));
        }
    }

    fn remove(&mut self, key: SlabKey) -> Option<HalfOpen> {
        let half_open = self.slab.remove(key)?;
        self.by_flow.remove(&half_open.flow);
        let slab = &self.slab;
        self.timers.tidy(slab.len(), |key| slab.get(key).map(|half_open| &half_open.deadline));
        Some(half_open)
    }

    /// The next one that something is to be done for.
    fn due(&mut self, now: Instant) -> Option<SlabKey> {
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(half_open) = self.slab.get_mut(key) else { continue };
            if self.timers.is_due(key, &mut half_open.deadline, at, now) {
                return Some(key);
            }
        }
        None
    }
}

/// An answer to a SYN.
struct SynAnswer<'a> {
    flow: &'a Flow,
    peer_mac: [u8; 6],
    isn: Seq,
    peer: &'a PeerSyn,
    window: u16,
    options: Options,
}

impl Stack {
    /// What we bring to a connection of `flow`.
    pub(crate) fn opening(&self, flow: &Flow, now: Instant) -> Opening {
        // In any-IP mode the peer is a guest on the same machine.
        let is_local = self.any.is_some();
        let (mss_max, mss_default) = Opening::sizes(self.mtu(flow.remote.addr), &flow.remote.addr);
        Opening {
            isn: Seq(self.secret.sequence_number(flow, now)),
            mss_max,
            mss_default,
            window_shift: window_shift(self.buffers.receive_max()),
            timestamp_offset: (!is_local).then(|| self.secret.timestamp_offset(flow)),
            is_local,
        }
    }

    /// A SYN for a listener's port.
    pub(super) fn receive_syn(
        &mut self,
        flow: Flow,
        segment: &Segment<'_>,
        received: &Received<'_>,
        now: Instant,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let peer = PeerSyn::of(segment);
        if let Some(&key) = self.half_open.by_flow.get(&flow) {
            if self.half_open.slab.get(key).is_some_and(|known| known.peer.seq == peer.seq) {
                self.answer_half_open(key, now, port);
                return Some(());
            }
            self.forget_half_open(key); // The peer has begun anew.
        }
        let admission = self.listeners.admit(flow.local.port, now);
        if admission != Admission::Refused && self.connections.len() >= self.connections_max {
            self.counters.connections_refused += 1;
            return self.refuse(&flow, segment, received.source_mac, port);
        }
        match admission {
            Admission::Refused => self.refuse(&flow, segment, received.source_mac, port),
            Admission::Later => None,
            Admission::Cookie => {
                self.counters.cookies_sent += 1;
                self.send_cookie(&flow, &peer, received.source_mac, now, port);
                Some(())
            }
            Admission::Admitted(listener) => {
                let isn = Seq(self.secret.sequence_number(&flow, now));
                let half_open = HalfOpen {
                    flow,
                    listener,
                    peer_mac: received.source_mac,
                    isn,
                    peer,
                    promised: self.first_window(),
                    since: now,
                    retries: 0,
                    deadline: Deadline::default(),
                };
                self.send_syn_ack(&half_open, now, port);
                self.half_open.add(half_open, now + RETRIES[0]);
                Some(())
            }
        }
    }

    /// The window in an answer to a SYN, which is never scaled.
    fn first_window(&self) -> u16 {
        let window = self.buffers.receive_limit().min(RECEIVE_LIMIT_START);
        u16::try_from(window).unwrap_or(u16::MAX)
    }

    /// Answers a SYN that is remembered. If there is no room, the answer goes with the next repetition.
    fn send_syn_ack(&self, half_open: &HalfOpen, now: Instant, port: &mut dyn FramePort) {
        let flow = &half_open.flow;
        let opening = self.opening(flow, half_open.since);
        let agreed = opening.agree(&half_open.peer.options, now);
        let answer = SynAnswer {
            flow,
            peer_mac: half_open.peer_mac,
            isn: half_open.isn,
            peer: &half_open.peer,
            window: half_open.promised,
            options: answer_options(&opening, &agreed, now),
        };
        self.send_answer(&answer, port);
    }

    fn send_answer(&self, answer: &SynAnswer<'_>, port: &mut dyn FramePort) -> bool {
        let header = Header {
            seq: answer.isn,
            ack: answer.peer.seq + 1,
            flags: Flags::SYN_ACK,
            window: answer.window,
            options: answer.options,
        };
        let route = Route { link: &self.link, destination_mac: answer.peer_mac, flow: answer.flow };
        route.send_bare(port, &header)
    }

    /// Answers a SYN without remembering it.
    fn send_cookie(
        &self,
        flow: &Flow,
        peer: &PeerSyn,
        peer_mac: [u8; 6],
        now: Instant,
        port: &mut dyn FramePort,
    ) {
        let opening = self.opening(flow, now);
        let mut agreed = opening.agree(&peer.options, now);
        let isn = cookie::bake(&self.secret, flow, peer.seq, agreed.mss, now);
        match &mut agreed.timestamps {
            Some(timestamps) => {
                let clock = Timestamps::clock(timestamps.offset, now);
                let stamp = cookie::stamp(clock, &peer.options);
                timestamps.offset = timestamps.offset.wrapping_sub(clock.wrapping_sub(stamp));
            }
            // There is nowhere to keep more than the segment size.
            None => (agreed.is_scaled, agreed.has_sack) = (false, false),
        }
        let options = answer_options(&opening, &agreed, now);
        let window = self.first_window();
        self.send_answer(&SynAnswer { flow, peer_mac, isn, peer, window, options }, port);
    }

    /// Sends the answer to a SYN once more.
    fn answer_half_open(&mut self, key: SlabKey, now: Instant, port: &mut dyn FramePort) {
        let Some(half_open) = self.half_open.slab.get(key) else { return };
        self.send_syn_ack(half_open, now, port);
        if let Some(half_open) = self.half_open.slab.get_mut(key) {
            // From now on nobody knows which answer the peer answers.
            half_open.retries = half_open.retries.max(1);
        }
    }

    fn forget_half_open(&mut self, key: SlabKey) {
        if let Some(half_open) = self.half_open.remove(key) {
            self.listeners.forget(half_open.listener);
        }
    }

    /// Forgets the half-open connections of a listener that is gone.
    pub(crate) fn forget_half_open_of(&mut self, listener: ListenerId) {
        let is_of = |key: &SlabKey| {
            self.half_open.slab.get(*key).is_some_and(|half_open| half_open.listener == listener)
        };
        let keys: Vec<_> = self.half_open.by_flow.values().copied().filter(is_of).collect();
        keys.into_iter().for_each(|key| self.forget_half_open(key));
    }

    /// Repeats answers that were not answered, and forgets peers that never will.
    pub(crate) fn expire_half_open(&mut self, now: Instant, port: &mut dyn FramePort) {
        while let Some(key) = self.half_open.due(now) {
            let Some(half_open) = self.half_open.slab.get(key) else { continue };
            let age = now - half_open.since;
            if age >= LIFETIME {
                self.counters.half_open_dropped += 1;
                self.forget_half_open(key);
                continue;
            }
            let next = half_open.since + RETRIES.into_iter().find(|r| *r > age).unwrap_or(LIFETIME);
            self.answer_half_open(key, now, port);
            self.half_open.set_timer(key, next);
        }
    }

    /// A segment that is no SYN, of a flow that has no connection: it may complete a handshake.
    pub(super) fn complete_handshake(
        &mut self,
        flow: &Flow,
        segment: &Segment<'_>,
        received: &Received<'_>,
        now: Instant,
    ) -> Completion {
        let Some(&key) = self.half_open.by_flow.get(flow) else {
            return self.take_cookie(flow, segment, received, now);
        };
        let Some(half_open) = self.half_open.slab.get(key) else { return Completion::Refused };
        let next = half_open.peer.seq + 1;
        if segment.flags.has(Flags::RST) {
            if segment.seq == next {
                self.forget_half_open(key);
            }
            return Completion::Ignored;
        }
        if !segment.flags.has(Flags::ACK) {
            return Completion::Ignored;
        }
        if segment.ack != half_open.isn + 1 {
            // The same SYN may have got a cookie before there was a place for it.
            let completion = self.take_cookie(flow, segment, received, now);
            if matches!(completion, Completion::Established(_)) {
                self.forget_half_open(key);
            }
            return completion;
        }
        let in_window = segment.seq >= next && segment.seq <= next + u32::from(half_open.promised);
        if !in_window || !self.listeners.has_room(half_open.listener) {
            return Completion::Ignored;
        }
        let opening = Opening { isn: half_open.isn, ..self.opening(flow, half_open.since) };
        let agreed = opening.agree(&half_open.peer.options, half_open.since);
        let sent_at = (half_open.retries == 0).then_some(half_open.since);
        let (peer, promised, listener) = (half_open.peer, half_open.promised, half_open.listener);
        self.forget_half_open(key);
        let tcb = Tcb::resume(&opening, agreed, &peer, promised, sent_at, now);
        self.establish(*flow, tcb, listener)
    }

    /// The acknowledgement of a cookie makes a connection.
    fn take_cookie(
        &mut self,
        flow: &Flow,
        segment: &Segment<'_>,
        received: &Received<'_>,
        now: Instant,
    ) -> Completion {
        let is_plain = segment.flags.has(Flags::ACK)
            && !segment.flags.has(Flags::SYN)
            && !segment.flags.has(Flags::RST);
        let is_own = self.is_own(received.ip.destination);
        let Some(listener) = self.listeners.sent_cookies(flow.local.port, now) else {
            return Completion::Refused;
        };
        let (isn, seq) = (segment.ack - 1, segment.seq - 1);
        if !is_plain || !is_own {
            return Completion::Refused;
        }
        let Some(mss) = cookie::eat(&self.secret, flow, seq, isn, now) else {
            // It may be a later segment of a peer whose first ones were lost in the flood. They come
            // again, unless it is told that there is no connection.
            return Completion::Ignored;
        };
        if !self.listeners.has_room(listener) {
            return Completion::Ignored;
        }
        let options = match segment.timestamp() {
            Some(stamp) => cookie::read_stamp(stamp.echo, mss, stamp.value),
            None => SynOptions { mss: Some(mss), ..SynOptions::default() },
        };
        let opening = Opening { isn, ..self.opening(flow, now) };
        let agreed = opening.agree(&options, now);
        let peer = PeerSyn { seq, window: 0, options };
        let promised = u16::try_from(RECEIVE_LIMIT_START).unwrap_or(u16::MAX);
        let tcb = Tcb::resume(&opening, agreed, &peer, promised, None, now);
        self.establish(*flow, tcb, listener)
    }

    /// Adds a connection that the peer has just acknowledged, for the listener.
    fn establish(&mut self, flow: Flow, tcb: Tcb, listener: ListenerId) -> Completion {
        let Some(key) = self.add_connection(flow, tcb, Owner::Queue) else {
            return Completion::Refused;
        };
        self.listeners.establish(listener, key);
        Completion::Established(key)
    }
}

/// What a segment did to a handshake.
#[derive(Debug)]
pub(super) enum Completion {
    /// There is a connection now, which is to take the segment.
    Established(SlabKey),
    /// Nothing.
    Ignored,
    /// There is no such handshake: it is to be answered with a reset.
    Refused,
}

fn answer_options(opening: &Opening, agreed: &Agreed, now: Instant) -> Options {
    let shift = agreed.is_scaled.then_some(agreed.our_shift);
    output::syn_options(opening.mss_max, shift, agreed.has_sack, agreed.timestamps, now)
}

/// The shift with which a window of `len` bytes fits the field (RFC 7323, 2.2).
fn window_shift(len: usize) -> u8 {
    let excess = len.checked_ilog2().unwrap_or(0).saturating_sub(15);
    u8::try_from(excess).unwrap_or(0).min(WINDOW_SHIFT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_is_as_small_as_can_be() {
        for (len, shift) in [(0, 0), (65_535, 0), (65_536, 1), (1 << 20, 5), (usize::MAX, 14)] {
            assert_eq!(window_shift(len), shift);
        }
    }

    #[test]
    fn a_half_open_connection_is_a_small_record() {
        assert!(size_of::<HalfOpen>() <= 192, "{}", size_of::<HalfOpen>());
    }
}
