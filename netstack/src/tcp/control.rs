//! The state of one connection (RFC 9293, 3.3), and what the application does with it.
use super::congestion::Congestion;
use super::header::TCP_LEN;
use super::receive_queue::ReceiveQueue;
use super::recovery::{DUPLICATES, Recovery};
use super::rtt::RttEstimator;
use super::segment::{Segment, SynOptions};
use super::send_queue::SendQueue;
use super::sequence::Seq;
use super::{Progress, TcpError};
use crate::buffers::BufferBudget;
use crate::ip::header_len;
use alloc::boxed::Box;
use core::task::Waker;
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

/// Payload of a segment to a peer that does not say what it takes: to IPv4 and IPv6 (RFC 9293,
/// 3.7.1).
const MSS_DEFAULT: u16 = 536;
const MSS_DEFAULT_V6: u16 = 1220;

/// No peer makes us send segments smaller than this.
pub(super) const MSS_MIN: u16 = 64;

/// The receive window that a connection starts with: what needs no scaling.
pub(crate) const RECEIVE_LIMIT_START: usize = 65_535;

/// States of a connection (RFC 9293, 3.3.2). LISTEN has no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

impl State {
    /// Whether the connection is not established yet.
    pub(crate) fn is_opening(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived)
    }
}

/// What the one timer of a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerKind {
    /// Send again what was not acknowledged (RFC 6298).
    Retransmit,
    /// Ask for an acknowledgement of the last segments sent (RFC 8985, 7).
    TailProbe,
    /// Ask whether a closed window has opened (RFC 9293, 3.8.6.1).
    WindowProbe,
}

/// When to acknowledge what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckDue {
    Never,
    /// With the next segment, or at this time.
    At(Instant),
    Now,
}

/// The timestamps option in use (RFC 7323).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamps {
    /// What our clock, of milliseconds, shows at time 0.
    pub(crate) offset: u32,
    /// The peer's clock, to be sent back, and when it was heard.
    pub(crate) recent: u32,
    pub(crate) recent_at: Instant,
}

impl Timestamps {
    /// What our clock shows.
    pub(crate) fn clock(offset: u32, now: Instant) -> u32 {
        let ms = now.total_millis().cast_unsigned() & u64::from(u32::MAX);
        offset.wrapping_add(u32::try_from(ms).unwrap_or(0))
    }
}

/// What our side brings to a new connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Our first sequence number.
    pub(crate) isn: Seq,
    /// Largest segment payload that the link takes: the MTU without the headers of IP and TCP.
    pub(crate) mss_max: u16,
    /// Segment payload for a peer that does not say what it takes.
    pub(crate) mss_default: u16,
    /// The shift of our windows, if the peer scales its own, too.
    pub(crate) window_shift: u8,
    /// What our timestamp clock shows at time 0, if we are ready to use timestamps.
    pub(crate) timestamp_offset: Option<u32>,
    /// The peer is on the same machine: there is no congestion, and acknowledgements are not delayed.
    pub(crate) is_local: bool,
}

impl Opening {
    /// The segment payload that fits `mtu`, and that for a silent peer, at `address`.
    pub(crate) fn sizes(mtu: usize, address: &IpAddress) -> (u16, u16) {
        let payload = mtu.saturating_sub(header_len(*address) + TCP_LEN);
        let default = match address {
            IpAddress::Ipv4(_) => MSS_DEFAULT,
            IpAddress::Ipv6(_) => MSS_DEFAULT_V6,
        };
        (u16::try_from(payload).unwrap_or(u16::MAX).max(MSS_MIN), default)
    }

    /// What holds for a connection whose peer has sent `options`.
    pub(crate) fn agree(&self, options: &SynOptions, now: Instant) -> Agreed {
        let mss = options.mss.unwrap_or(self.mss_default).max(MSS_MIN).min(self.mss_max);
        let timestamps = self
            .timestamp_offset
            .zip(options.timestamp)
            .map(|(offset, recent)| Timestamps { offset, recent, recent_at: now });
        let (our_shift, peer_shift) =
            options.window_shift.map_or((0, 0), |peer_shift| (self.window_shift, peer_shift));
        let is_scaled = options.window_shift.is_some();
        Agreed { mss, our_shift, peer_shift, is_scaled, has_sack: options.permits_sack, timestamps }
    }
}

/// What both sides of a connection agreed on in their SYNs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    /// Largest payload that we send in a segment, if it has no options.
    pub(crate) mss: u16,
    pub(crate) our_shift: u8,
    pub(crate) peer_shift: u8,
    pub(crate) is_scaled: bool,
    pub(crate) has_sack: bool,
    pub(crate) timestamps: Option<Timestamps>,
}

/// The peer's SYN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerSyn {
    pub(crate) seq: Seq,
    pub(crate) window: u16,
    pub(crate) options: SynOptions,
}

impl PeerSyn {
    pub(crate) fn of(segment: &Segment<'_>) -> Self {
        let (seq, window) = (segment.seq, segment.window);
        Self { seq, window, options: segment.syn_options() }
    }
}

/// One end of a connection: the transmission control block of RFC 9293.
#[derive(Debug)]
pub(crate) struct Tcb {
    pub(super) state: State,
    /// Why it ended, if not by agreement.
    pub(super) failure: Option<TcpError>,
    /// A reset is to be sent.
    pub(super) is_reset_due: bool,
    pub(super) is_local: bool,
    pub(super) mss_max: u16,
    pub(super) mss_default: u16,
    pub(super) agreed: Agreed,

    /// First sequence number that is not acknowledged, next one to send (SND.UNA, SND.NXT).
    pub(super) unacknowledged: Seq,
    pub(super) next: Seq,
    /// The peer's window, bytes from `unacknowledged`, the largest one seen, and the segment that
    /// told it (SND.WND, SND.WL1, SND.WL2).
    pub(super) window: u32,
    pub(super) window_max: u32,
    pub(super) window_seq: Seq,
    pub(super) window_ack: Seq,
    pub(super) send: SendQueue,
    /// The application has said that nothing more comes.
    pub(super) is_finishing: bool,
    pub(super) is_fin_sent: bool,

    /// Next sequence number to receive, and the end of the window that was promised (RCV.NXT,
    /// RCV.NXT + RCV.WND).
    pub(super) receive_next: Seq,
    pub(super) promised: Seq,
    /// The window of our SYN, while the peer's is not known.
    pub(super) promised_in_syn: u32,
    /// What was acknowledged last.
    pub(super) acknowledged: Seq,
    pub(super) receive: ReceiveQueue,
    /// Bytes that may wait to be read.
    pub(super) receive_limit: usize,
    /// Bytes received since `round_start`, from which the limit is adapted.
    pub(super) round_len: u32,
    pub(super) round_start: Instant,
    /// Where the peer's FIN is, once it arrived.
    pub(super) fin: Option<Seq>,
    pub(super) is_fin_received: bool,
    pub(super) ack_due: AckDue,
    /// Segments since the last acknowledgement.
    pub(super) segments: u8,
    /// When we last answered a segment that had no place in the connection.
    pub(super) challenged_at: Option<Instant>,

    pub(super) rtt: RttEstimator,
    /// The end of a segment whose round trip is measured, and when it was sent.
    pub(super) timed: Option<(Seq, Instant)>,
    pub(super) congestion: Congestion,
    /// Exists while something is missing.
    pub(super) recovery: Option<Box<Recovery>>,
    /// Segments that have to arrive before a missing one for that to count as lost.
    pub(super) duplicates: u16,
    pub(super) timer: Option<(Instant, TimerKind)>,
    /// A probe for segments lost at the end of this flight is to be sent, or was.
    pub(super) is_tail_probe_due: bool,
    pub(super) is_tail_probed: bool,
    pub(super) is_window_probe_due: bool,
    pub(super) last_sent: Instant,

    pub(super) receive_waker: Option<Waker>,
    pub(super) send_waker: Option<Waker>,
}

impl Tcb {
    /// A connection that we open: a SYN is to be sent.
    pub(crate) fn connect(opening: &Opening, now: Instant) -> Self {
        let options = SynOptions::default();
        let peer = PeerSyn { seq: Seq(0), window: 0, options };
        let mut agreed = opening.agree(&options, now);
        // What we offer, until the peer says what it takes of it.
        agreed.our_shift = opening.window_shift;
        agreed.timestamps =
            opening.timestamp_offset.map(|offset| Timestamps { offset, recent: 0, recent_at: now });
        Self::new(State::SynSent, opening, agreed, &peer, now)
    }

    /// A connection that the peer opens: a SYN with an acknowledgement is to be sent.
    pub(crate) fn accept(opening: &Opening, peer: &PeerSyn, now: Instant) -> Self {
        let agreed = opening.agree(&peer.options, now);
        Self::new(State::SynReceived, opening, agreed, peer, now)
    }

    /// A connection whose SYNs were exchanged already: ours promised `promised` bytes, and was sent
    /// once, if it is known when.
    pub(crate) fn resume(
        opening: &Opening,
        agreed: Agreed,
        peer: &PeerSyn,
        promised: u16,
        sent_at: Option<Instant>,
        now: Instant,
    ) -> Self {
        let mut tcb = Self::new(State::SynReceived, opening, agreed, peer, now);
        tcb.next = opening.isn + 1;
        tcb.timed = sent_at.map(|at| (tcb.next, at));
        tcb.promised = tcb.receive_next + u32::from(promised);
        tcb
    }

    fn new(state: State, opening: &Opening, agreed: Agreed, peer: &PeerSyn, now: Instant) -> Self {
        let receive_next = peer.seq + 1;
        let congestion = if opening.is_local {
            Congestion::unlimited()
        } else {
            Congestion::new(u32::from(agreed.mss))
        };
        Self {
            state,
            failure: None,
            is_reset_due: false,
            is_local: opening.is_local,
            mss_max: opening.mss_max,
            mss_default: opening.mss_default,
            agreed,
            unacknowledged: opening.isn,
            next: opening.isn,
            window: u32::from(peer.window),
            window_max: u32::from(peer.window),
            window_seq: peer.seq,
            window_ack: opening.isn,
            send: SendQueue::default(),
            is_finishing: false,
            is_fin_sent: false,
            receive_next,
            promised: receive_next,
            promised_in_syn: 0,
            acknowledged: receive_next,
            receive: ReceiveQueue::default(),
            receive_limit: RECEIVE_LIMIT_START,
            round_len: 0,
            round_start: now,
            fin: None,
            is_fin_received: false,
            ack_due: AckDue::Never,
            segments: 0,
            challenged_at: None,
            rtt: RttEstimator::new(),
            timed: None,
            congestion,
            recovery: None,
            duplicates: DUPLICATES,
            timer: None,
            is_tail_probe_due: false,
            is_tail_probed: false,
            is_window_probe_due: false,
            last_sent: now,
            receive_waker: None,
            send_waker: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn failure(&self) -> Option<TcpError> {
        self.failure
    }

    /// Whether nothing is left to do for this connection.
    pub(crate) fn is_finished(&self) -> bool {
        self.state == State::Closed && !self.is_reset_due
    }

    /// Whether we want to connect and have sent nothing yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.state == State::SynSent && self.next == self.unacknowledged && self.timer.is_none()
    }

    /// How far both directions have come, for a connection in TIME-WAIT.
    pub(crate) fn progress(&self) -> Progress {
        Progress { send_next: self.next, receive_next: self.receive_next }
    }

    /// Bytes that can be read.
    pub(crate) fn ready_len(&self) -> usize {
        self.receive.ready_len()
    }

    /// Bytes that the peer has not acknowledged.
    pub(crate) fn unacknowledged_len(&self) -> usize {
        self.send.len()
    }

    /// Some of the bytes that can be read next; empty if there are none now.
    pub(crate) fn front_mut(&mut self) -> &mut [u8] {
        self.receive.front_mut()
    }

    /// Takes bytes off the front. Whether the peer should hear that there is more room.
    pub(crate) fn consume(&mut self, len: usize, budget: &mut BufferBudget) -> bool {
        self.receive.consume(len, budget);
        let window = self.promised.since(self.receive_next) as usize;
        let gain = self.receive_room(budget).saturating_sub(window);
        let (limit, segments) = (window + gain, 2 * usize::from(self.agreed.mss));
        let is_due = gain > 0 && (2 * gain >= limit || (4 * gain >= limit && gain >= segments));
        if is_due && self.can_receive() {
            self.ack_due = AckDue::Now;
        }
        is_due
    }

    /// Whether more may arrive from the peer.
    pub(crate) fn can_receive(&self) -> bool {
        matches!(self.state, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether the peer has finished, and all that it sent was read.
    pub(crate) fn is_read_to_the_end(&self) -> bool {
        self.is_fin_received && self.receive.ready_len() == 0
    }

    /// Bytes of new window that there is room for.
    pub(super) fn receive_room(&self, budget: &BufferBudget) -> usize {
        // No more than the window's field can say.
        let field_max = usize::from(u16::MAX) << self.agreed.our_shift;
        let limit = self.receive_limit.min(budget.receive_limit()).min(field_max);
        limit.saturating_sub(self.receive.ready_len())
    }

    /// Whether the application may write, now or later.
    pub(crate) fn may_send(&self) -> bool {
        !self.is_finishing && self.state != State::Closed
    }

    /// Bytes that the application may write now.
    pub(crate) fn send_room(&self, budget: &BufferBudget) -> usize {
        if self.state.is_opening() {
            0
        } else {
            budget.send_limit().saturating_sub(self.send.len())
        }
    }

    pub(crate) fn send_queue_mut(&mut self) -> &mut SendQueue {
        &mut self.send
    }

    /// The application has nothing more to send.
    pub(crate) fn finish(&mut self, budget: &mut BufferBudget) {
        self.is_finishing = true;
        match self.state {
            State::SynSent => self.close(budget),
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            _ => {}
        }
    }

    /// Ends the connection with a reset because of `failure`.
    pub(crate) fn fail(&mut self, failure: TcpError, budget: &mut BufferBudget) {
        // A connection that never was, or that both ends have closed, needs no reset.
        let is_known = !matches!(self.state, State::SynSent | State::TimeWait | State::Closed);
        self.is_reset_due |= is_known;
        self.failure.get_or_insert(failure);
        self.close(budget);
    }

    /// A reset that is due cannot be sent.
    pub(crate) fn forget_reset(&mut self) {
        self.is_reset_due = false;
    }

    /// The connection is over.
    pub(super) fn close(&mut self, budget: &mut BufferBudget) {
        self.state = State::Closed;
        self.send.clear(budget);
        self.recovery = None;
        self.timer = None;
        self.ack_due = AckDue::Never;
        self.wake_all();
    }

    /// Gives all memory back.
    pub(crate) fn release(&mut self, budget: &mut BufferBudget) {
        self.send.clear(budget);
        self.receive.clear(budget);
    }

    pub(crate) fn wait_to_receive(&mut self, waker: &Waker) {
        register(&mut self.receive_waker, waker);
    }

    pub(crate) fn wait_to_send(&mut self, waker: &Waker) {
        register(&mut self.send_waker, waker);
    }

    pub(super) fn wake_all(&mut self) {
        wake(&mut self.receive_waker);
        wake(&mut self.send_waker);
    }

    /// Bytes of payload in a full segment.
    pub(super) fn segment_size(&self) -> u32 {
        let options = if self.agreed.timestamps.is_some() { TIMESTAMPS_LEN } else { 0 };
        u32::from(self.agreed.mss) - options
    }

    /// Sequence numbers on the way to the peer.
    pub(super) fn in_flight(&self) -> u32 {
        let (first, next) = (self.unacknowledged, self.next);
        match &self.recovery {
            None => next - first,
            Some(recovery) => recovery.in_flight(first, next, self.segment_size()),
        }
    }

    /// The machine at the other end does not take our SYN, says it of the segment at `seq`. Whether
    /// that ends the attempt.
    pub(crate) fn refused(&mut self, seq: Seq, budget: &mut BufferBudget) -> bool {
        let is_ours = self.state == State::SynSent && seq == self.unacknowledged;
        if is_ours && !self.is_silent() {
            self.fail(TcpError::Refused, budget);
            return true;
        }
        false
    }

    /// The path takes packets only that have `mss` bytes of payload, says a router of the segment that
    /// begins at `seq` (RFC 1191; checked as RFC 5927, 4.1 says). Whether anything changes.
    pub(crate) fn shrink_segments(&mut self, mss: u16, seq: Seq) -> bool {
        let is_ours = seq >= self.unacknowledged && seq < self.next;
        let mss = mss.max(self.mss_default.min(self.agreed.mss));
        if !is_ours || mss >= self.agreed.mss || self.state.is_opening() {
            return false;
        }
        self.agreed.mss = mss;
        let (first, next) = (self.unacknowledged, self.next);
        self.recovery.get_or_insert_with(|| Box::new(Recovery::new(first))).resend(first, next);
        self.timed = None;
        true
    }

    /// How often in a row the peer was waited for in vain.
    pub(crate) fn unanswered_count(&self) -> u8 {
        self.rtt.backoff()
    }

    /// When this connection wants to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ack = match self.ack_due {
            AckDue::Never => None,
            AckDue::At(at) => Some(at),
            AckDue::Now => Some(Instant::ZERO),
        };
        [ack, self.timer.map(|(at, _)| at)].into_iter().flatten().min()
    }
}

/// Bytes of the timestamps option with its fillers.
const TIMESTAMPS_LEN: u32 = 12;

fn register(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(known) => known.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

pub(super) fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}
