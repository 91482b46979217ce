//! What a segment does to a connection (RFC 9293, 3.10.7, with RFC 5961 against blind attackers).
use super::congestion::Congestion;
use super::control::{AckDue, Opening, PeerSyn, State, Tcb, wake};
use super::recovery::Recovery;
use super::segment::{Flags, Segment};
use super::sequence::Seq;
use super::{TcpError, length};
use crate::buffers::BufferBudget;
use alloc::boxed::Box;
use smoltcp::time::{Duration, Instant};

/// How long an acknowledgement waits for a segment to go with (RFC 9293, 3.8.6.3: less than 0.5 s).
const ACK_DELAY: Duration = Duration::from_millis(10);

/// As many segments are acknowledged at once.
const ACK_SEGMENTS: u8 = 2;

/// Segments that have no place in a connection are answered this often at most: two ends that
/// disagree must not answer each other for ever (RFC 5961, 7).
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(50);

/// A clock of the peer that was heard this long ago says nothing (RFC 7323, 5.5).
const CLOCK_LIFETIME: Duration = Duration::from_secs(24 * 24 * 3600);

/// The receive window is adapted no more often than this.
const ROUND_MIN: Duration = Duration::from_millis(1);

/// What to answer a segment at once. All else waits for the poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    /// An acknowledgement of what was received so far.
    Acknowledge,
    /// A reset, as from no connection at all.
    Reset,
}

impl Tcb {
    /// Takes a segment that arrived.
    pub(crate) fn receive(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        budget: &mut BufferBudget,
    ) -> Answer {
        match self.state {
            State::Closed if self.is_reset_due => Answer::Nothing,
            State::Closed => Answer::Reset,
            State::SynSent => self.receive_in_syn_sent(segment, now, budget),
            _ => self.receive_synchronized(segment, now, budget),
        }
    }

    /// RFC 9293, 3.10.7.3.
    fn receive_in_syn_sent(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        budget: &mut BufferBudget,
    ) -> Answer {
        let has_ack = segment.flags.has(Flags::ACK);
        let is_ours = has_ack && segment.ack == self.unacknowledged + 1;
        if has_ack && !is_ours {
            return Answer::Reset;
        }
        if segment.flags.has(Flags::RST) {
            if is_ours {
                self.failure = Some(TcpError::Refused);
                self.close(budget);
            }
            return Answer::Nothing;
        }
        if !segment.flags.has(Flags::SYN) {
            return Answer::Nothing;
        }
        self.take_syn(&PeerSyn::of(segment), now);
        if is_ours {
            self.take_syn_acknowledgement(now);
            self.ack_due = AckDue::Now;
        } else {
            // Both ends open at the same time: the SYN goes again, with an acknowledgement.
            self.state = State::SynReceived;
            self.next = self.unacknowledged;
            self.timer = None;
        }
        Answer::Nothing
    }

    fn take_syn(&mut self, peer: &PeerSyn, now: Instant) {
        let opening = Opening {
            isn: self.unacknowledged,
            mss_max: self.mss_max,
            mss_default: self.mss_default,
            window_shift: self.agreed.our_shift,
            timestamp_offset: self.agreed.timestamps.map(|ours| ours.offset),
            is_local: self.is_local,
        };
        self.agreed = opening.agree(&peer.options, now);
        if !self.is_local {
            self.congestion = Congestion::new(self.segment_size());
        }
        self.receive_next = peer.seq + 1;
        // The window of our SYN counts from here.
        self.promised = self.receive_next + self.promised_in_syn;
        self.acknowledged = self.receive_next;
        self.window = u32::from(peer.window);
        self.window_max = self.window;
        (self.window_seq, self.window_ack) = (peer.seq, self.unacknowledged);
    }

    /// The peer has acknowledged our SYN.
    fn take_syn_acknowledgement(&mut self, now: Instant) {
        self.unacknowledged += 1;
        self.next = self.next.max(self.unacknowledged);
        self.measure(self.unacknowledged, now);
        self.timer = None;
        self.state = if self.is_finishing { State::FinWait1 } else { State::Established };
        wake(&mut self.send_waker);
    }

    fn receive_synchronized(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        budget: &mut BufferBudget,
    ) -> Answer {
        let flags = segment.flags;
        if flags.has(Flags::RST) {
            return self.receive_reset(segment, now, budget);
        }
        if !self.is_timely(segment, now) {
            return self.answer_stray(segment, now);
        }
        let is_in_window = self.is_in_window(segment);
        if self.state == State::SynReceived && flags.has(Flags::SYN) && !is_in_window {
            return self.receive_repeated_syn(segment, now);
        }
        // A full window leaves no room for data, but what it acknowledges counts.
        if !is_in_window && segment.seq != self.receive_next {
            if flags.has(Flags::ACK) && self.is_late(segment) {
                self.advance(segment.ack, now, budget);
            }
            return self.answer_stray(segment, now);
        }
        if flags.has(Flags::SYN) {
            return self.challenge(now);
        }
        if !flags.has(Flags::ACK) {
            return Answer::Nothing;
        }
        if self.state == State::SynReceived {
            if segment.ack != self.unacknowledged + 1 {
                return Answer::Reset;
            }
            self.take_syn_acknowledgement(now);
        }
        let (first, next) = (self.unacknowledged, self.next);
        if segment.ack > next || segment.ack < first - self.window_max {
            return self.challenge(now);
        }
        // Not before: whoever cannot see what we send must not set the clock.
        self.take_clock(segment, now);
        self.take_acknowledgement(segment, now, budget);
        if !is_in_window {
            return Answer::Acknowledge;
        }
        if segment.payload.is_empty() && !flags.has(Flags::FIN) {
            return Answer::Nothing;
        }
        self.take_data(segment, now, budget)
    }

    /// The peer's SYN once more, while ours is not acknowledged.
    fn receive_repeated_syn(&mut self, segment: &Segment<'_>, now: Instant) -> Answer {
        let is_acknowledged =
            segment.flags.has(Flags::ACK) && segment.ack == self.unacknowledged + 1;
        if is_acknowledged && segment.seq + 1 == self.receive_next {
            // Both ends opened at the same time, and this end's SYN arrived.
            self.take_syn_acknowledgement(now);
            return Answer::Acknowledge;
        }
        self.next = self.unacknowledged; // The peer has not heard our SYN: it goes again.
        Answer::Nothing
    }

    /// RFC 9293, 3.10.7.4, and RFC 5961, 3: only the very next sequence number resets.
    fn receive_reset(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        budget: &mut BufferBudget,
    ) -> Answer {
        if segment.seq != self.receive_next {
            let is_near = segment.seq > self.receive_next && segment.seq < self.promised;
            return if is_near { self.challenge(now) } else { Answer::Nothing };
        }
        self.failure = self.failure.or(match self.state {
            State::LastAck | State::TimeWait | State::Closing => None,
            _ => Some(TcpError::Reset),
        });
        self.close(budget);
        Answer::Nothing
    }

    /// Whether a segment is no older than what was heard (RFC 7323, 5: PAWS).
    fn is_timely(&self, segment: &Segment<'_>, now: Instant) -> bool {
        let Some(ours) = &self.agreed.timestamps else { return true };
        let Some(theirs) = segment.timestamp() else { return true };
        let is_older = Seq(theirs.value) < Seq(ours.recent);
        !is_older || now - ours.recent_at >= CLOCK_LIFETIME
    }

    /// Notes the peer's clock, to send it back (RFC 7323, 4.3).
    fn take_clock(&mut self, segment: &Segment<'_>, now: Instant) {
        if let Some(ours) = &mut self.agreed.timestamps
            && segment.seq <= self.acknowledged
            && let Some(theirs) = segment.timestamp()
        {
            (ours.recent, ours.recent_at) = (theirs.value, now);
        }
    }

    /// RFC 9293, 3.4: whether any of the segment lies in the receive window.
    fn is_in_window(&self, segment: &Segment<'_>) -> bool {
        let (start, len) = (segment.seq, segment.len());
        if len == 0 {
            let is_first = start == self.receive_next;
            return is_first || (start > self.receive_next && start < self.promised);
        }
        start < self.promised && start + len > self.receive_next
    }

    /// Whether a segment that lies a little in front of the window acknowledges something new: peers
    /// that send again may go back with the sequence numbers of bare acknowledgements, too.
    fn is_late(&self, segment: &Segment<'_>) -> bool {
        let distance = self.receive_next.since(segment.seq);
        let is_near = distance > 0 && distance as usize <= self.receive_limit;
        let is_new = segment.ack > self.unacknowledged && segment.ack <= self.next;
        is_near && is_new && !self.state.is_opening()
    }

    /// Answers what lies outside the window: at once if it is a repetition of something, as then our
    /// acknowledgement was lost.
    fn answer_stray(&mut self, segment: &Segment<'_>, now: Instant) -> Answer {
        if segment.len() > 0 && segment.end() <= self.receive_next {
            return Answer::Acknowledge;
        }
        self.challenge(now)
    }

    /// An acknowledgement for somebody who may be no peer of ours, or disagrees with us.
    fn challenge(&mut self, now: Instant) -> Answer {
        if self.challenged_at.is_some_and(|at| at + CHALLENGE_INTERVAL > now) {
            return Answer::Nothing;
        }
        self.challenged_at = Some(now);
        Answer::Acknowledge
    }

    fn take_acknowledgement(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        budget: &mut BufferBudget,
    ) {
        let window = u32::from(segment.window) << self.agreed.peer_shift;
        let is_same_window = window == self.window;
        let (first, was_in_flight) = (self.unacknowledged, self.next - self.unacknowledged);
        if self.agreed.has_sack && segment.may_have_blocks() {
            self.take_blocks(segment);
        }
        if segment.ack > first {
            self.acquit(segment);
            self.advance(segment.ack, now, budget);
        } else if segment.ack == first
            && was_in_flight > 0
            && is_same_window
            && segment.len() == 0
            && !self.agreed.has_sack
        {
            self.recovery.get_or_insert_with(|| Box::new(Recovery::new(first))).duplicate();
        }
        self.take_window(segment, window);
        self.detect_loss(was_in_flight);
    }

    /// Notes what the peer has out of order (RFC 2018).
    fn take_blocks(&mut self, segment: &Segment<'_>) {
        let first = self.unacknowledged.max(segment.ack);
        for (start, end) in segment.sack_blocks() {
            // Others are of no use, or tell of data that arrived twice (RFC 2883).
            if start > first && start < end && end <= self.next {
                let unacknowledged = self.unacknowledged;
                let recovery =
                    self.recovery.get_or_insert_with(|| Box::new(Recovery::new(unacknowledged)));
                recovery.selected(start, end);
            }
        }
    }

    /// Undoes a recovery if what was sent again was only late, and has more patience from then on.
    fn acquit(&mut self, segment: &Segment<'_>) {
        let mss = self.segment_size();
        let Some(recovery) = &mut self.recovery else { return };
        if !recovery.is_recovering() || self.agreed.timestamps.is_none() {
            return;
        }
        let Some(timestamp) = segment.timestamp() else { return };
        let patience_ms = u32::try_from(self.rtt.timeout().total_millis()).unwrap_or(u32::MAX);
        let echo = (timestamp.echo, patience_ms);
        if let Some((path, late)) = recovery.acquit(self.unacknowledged, echo, mss) {
            self.congestion = path;
            self.duplicates = self.duplicates.max(late);
        }
    }

    /// New data is acknowledged.
    fn advance(&mut self, ack: Seq, now: Instant, budget: &mut BufferBudget) {
        let mss = self.segment_size();
        let len = ack - self.unacknowledged;
        let is_window_used = self.in_flight().saturating_add(mss) > self.congestion.window();
        self.unacknowledged = ack;
        self.send.acknowledge(len, budget);
        self.rtt.progressed();
        self.measure(ack, now);
        let may_grow = self.recovery.as_ref().is_none_or(|recovery| recovery.may_grow());
        if let Some(recovery) = &mut self.recovery
            && recovery.acknowledged(ack, mss)
        {
            self.recovery = None;
        }
        if is_window_used && may_grow {
            self.congestion.acknowledged(len, mss, self.rtt.smoothed(), now);
        }
        self.timer = None; // It starts anew if there is something left to wait for.
        (self.is_tail_probe_due, self.is_tail_probed) = (false, false);
        if self.send.len() * 4 <= budget.send_limit() * 3 {
            wake(&mut self.send_waker);
        }
        if self.is_fin_sent && ack == self.next {
            self.take_fin_acknowledgement(budget);
        }
    }

    /// Takes the time of a round trip, if that of a segment in front of `ack` is wanted.
    fn measure(&mut self, ack: Seq, now: Instant) {
        if let Some((end, sent)) = self.timed
            && ack >= end
        {
            self.rtt.measured(now - sent);
            self.timed = None;
        }
    }

    fn take_fin_acknowledgement(&mut self, budget: &mut BufferBudget) {
        match self.state {
            State::FinWait1 => self.state = State::FinWait2,
            State::Closing => self.state = State::TimeWait,
            State::LastAck => self.close(budget),
            _ => {}
        }
    }

    /// RFC 9293, 3.10.7.4: the window of the latest segment counts.
    fn take_window(&mut self, segment: &Segment<'_>, window: u32) {
        let is_later = self.window_seq < segment.seq
            || (self.window_seq == segment.seq && self.window_ack <= segment.ack);
        if segment.ack >= self.unacknowledged && is_later {
            if self.window == 0 && window > 0 {
                self.rtt.progressed(); // What was not answered were probes, and now they are.
            }
            self.window = window;
            self.window_max = self.window_max.max(window);
            (self.window_seq, self.window_ack) = (segment.seq, segment.ack);
        }
    }

    /// `was_in_flight` is what was on the way before the acknowledgement.
    fn detect_loss(&mut self, was_in_flight: u32) {
        let mss = self.segment_size();
        let Some(recovery) = &mut self.recovery else { return };
        let flight = (self.unacknowledged, self.next);
        if recovery.detect(flight, mss, self.duplicates, self.is_tail_probed) {
            recovery.begin(self.congestion.clone());
            self.is_tail_probe_due = false; // What is missing goes first.
            self.congestion.lost(was_in_flight, mss);
            self.timer = None;
            self.timed = None;
        }
    }

    fn take_data(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        budget: &mut BufferBudget,
    ) -> Answer {
        if !self.can_receive() {
            return Answer::Nothing; // Behind a FIN there is nothing (RFC 9293, 3.10.7.4).
        }
        let (start, data) = self.trim(segment);
        let data_end = segment.seq + length(segment.payload.len());
        if segment.flags.has(Flags::FIN) && data_end <= self.promised {
            self.fin.get_or_insert(data_end);
        }
        let before = self.receive_next;
        let had_gaps = self.receive.has_gaps();
        if start == self.receive_next {
            if self.has_memory(data, budget) {
                self.receive_next = self.receive.push(start, data, budget);
            }
        } else if budget.takes_more(usize::MAX) {
            self.receive.insert(start, data, budget);
        }
        self.adapt_limit(length(data.len()), now, budget);
        let received = self.receive_next - before;
        if self.fin == Some(self.receive_next) {
            self.take_fin();
        }
        if self.receive_next != before {
            wake(&mut self.receive_waker);
        }
        if start != before || had_gaps || received < length(data.len()) {
            // The peer is to know at once of gaps, and of their end (RFC 5681, 4.2).
            return Answer::Acknowledge;
        }
        self.delay_acknowledgement(now);
        Answer::Nothing
    }

    /// The part of a segment's payload that lies in the window, and where it begins.
    fn trim<'a>(&self, segment: &Segment<'a>) -> (Seq, &'a [u8]) {
        let known = self.receive_next.since(segment.seq) as usize;
        let data = segment.payload.get(known..).unwrap_or(&[]);
        let start = segment.seq.max(self.receive_next);
        let room = self.promised.since(start) as usize;
        (start, &data[..data.len().min(room)])
    }

    fn has_memory(&self, data: &[u8], budget: &BufferBudget) -> bool {
        data.is_empty() || budget.takes_more(self.receive.held())
    }

    /// Gives a peer that fills the window within a round trip a larger one.
    fn adapt_limit(&mut self, len: u32, now: Instant, budget: &BufferBudget) {
        self.round_len = self.round_len.saturating_add(len);
        let round = self.rtt.smoothed().unwrap_or(ACK_DELAY).max(ROUND_MIN);
        if now < self.round_start + round {
            return;
        }
        if self.round_len as usize >= self.receive_limit / 2 {
            self.receive_limit = (self.receive_limit * 2).min(budget.receive_max());
        }
        self.round_len = 0;
        self.round_start = now;
    }

    /// All in front of the peer's FIN has arrived.
    fn take_fin(&mut self) {
        self.receive_next += 1;
        self.is_fin_received = true;
        self.fin = None;
        self.ack_due = AckDue::Now;
        self.state = match self.state {
            State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            other => other,
        };
        if self.state == State::TimeWait {
            self.timer = None;
        }
    }

    /// RFC 9293, 3.8.6.3.
    fn delay_acknowledgement(&mut self, now: Instant) {
        self.segments = self.segments.saturating_add(1);
        let waiting = self.receive_next - self.acknowledged;
        let is_much = self.segments >= ACK_SEGMENTS
            || waiting >= u32::from(ACK_SEGMENTS) * self.segment_size();
        self.ack_due = match self.ack_due {
            AckDue::Now => AckDue::Now,
            _ if is_much || self.is_local => AckDue::Now,
            AckDue::Never => AckDue::At(now + ACK_DELAY),
            at @ AckDue::At(_) => at,
        };
    }
}
