//! What a connection has to say, and when (RFC 9293, 3.8 and 3.9; RFC 6298; RFC 6675).
use super::control::{AckDue, State, Tcb, TimerKind, Timestamps};
use super::header::{Head, Header, Options, Route, TCP_LEN};
use super::length;
use super::receive_queue::BLOCKS_MAX;
use super::recovery::{DUPLICATES, Recovery};
use super::segment::{Flags, Timestamp};
use super::send_queue::{Cut, REFERENCES_MAX};
use super::sequence::Seq;
use crate::buffers::BufferBudget;
use crate::ip::header_len;
use crate::port::FramePort;
use alloc::boxed::Box;
use bytes::Bytes;
use smoltcp::time::{Duration, Instant};

/// Most frames of one connection before it is another's turn.
const BURST_MAX: usize = 32;

/// Longest packet handed to the device for segmentation: what the length field of IP can say.
const PACKET_LEN_MAX: usize = 65_535;

/// The least time before a probe for lost segments at the end of a flight (RFC 8985, 7.2), and what
/// is added if only one is on its way: the time for which its acknowledgement may be delayed.
const TAIL_PROBE_MIN: Duration = Duration::from_millis(10);
const PEER_ACK_DELAY: Duration = Duration::from_millis(200);

/// The least time before anything is sent again on the same machine.
const LOCAL_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// After as many timeouts in a row, full segments are tried in a smaller size: a router may drop
/// them without a word (RFC 2923, 2.1).
const BLACK_HOLE_TIMEOUTS: u8 = 3;
/// The size that is tried first, bytes of payload: what IPv6 takes everywhere.
const MSS_CAUTIOUS: u16 = 1220;

/// How far [`Tcb::send`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    /// There is more, and the connection has had its share.
    More,
    /// The port has no room.
    Blocked,
}

/// A part of the stream to send.
#[derive(Clone, Copy, Debug)]
struct Part {
    seq: Seq,
    /// Bytes of data; the FIN comes on top.
    len: u32,
    has_fin: bool,
    is_repeated: bool,
}

impl Part {
    fn end(&self) -> Seq {
        self.seq + self.len + u32::from(self.has_fin)
    }
}

/// What the connection is sent through, and with what.
pub(crate) struct Output<'a> {
    pub(crate) route: Route<'a>,
    pub(crate) port: &'a mut dyn FramePort,
    pub(crate) budget: &'a BufferBudget,
    pub(crate) now: Instant,
}

impl Tcb {
    /// Sends what there is to send, and sets the timer.
    pub(crate) fn send(&mut self, out: &mut Output<'_>) -> Sent {
        if self.is_reset_due {
            return self.send_reset(out);
        }
        if self.state == State::Closed {
            return Sent::All;
        }
        self.take_timeout(out.now);
        if self.state.is_opening() {
            return self.send_syn(out);
        }
        if self.is_window_probe_due {
            let header = self.header(Flags::ACK, self.unacknowledged - 1, out);
            if !out.route.send_bare(out.port, &header) {
                return Sent::Blocked;
            }
            self.is_window_probe_due = false;
        }
        if self.is_tail_probe_due {
            let is_sent = self.tail_probe(out).is_none_or(|part| self.send_part(&part, out));
            if !is_sent {
                return Sent::Blocked;
            }
            (self.is_tail_probe_due, self.is_tail_probed) = (false, true);
        }
        let sent = self.send_parts(out);
        if sent != Sent::Blocked && self.is_ack_due(out.now) && !self.acknowledge(out) {
            return Sent::Blocked;
        }
        self.set_timer(out.now);
        sent
    }

    fn is_ack_due(&self, now: Instant) -> bool {
        match self.ack_due {
            AckDue::Never => false,
            AckDue::Now => true,
            AckDue::At(at) => at <= now,
        }
    }

    /// Sends an acknowledgement alone. Whether there was room.
    pub(crate) fn acknowledge(&mut self, out: &mut Output<'_>) -> bool {
        let header = self.header(Flags::ACK, self.next, out);
        let is_sent = out.route.send_bare(out.port, &header);
        if is_sent {
            self.acknowledged();
        } else {
            self.ack_due = AckDue::Now;
        }
        is_sent
    }

    /// A segment has carried our acknowledgement.
    fn acknowledged(&mut self) {
        self.acknowledged = self.receive_next;
        self.ack_due = AckDue::Never;
        self.segments = 0;
    }

    fn send_reset(&mut self, out: &mut Output<'_>) -> Sent {
        let header = Header {
            seq: self.next,
            ack: self.receive_next,
            flags: Flags::RST_ACK,
            window: 0,
            options: Options::none(),
        };
        if !out.route.send_bare(out.port, &header) {
            return Sent::Blocked;
        }
        self.is_reset_due = false;
        Sent::All
    }

    fn send_syn(&mut self, out: &mut Output<'_>) -> Sent {
        if self.next != self.unacknowledged {
            return Sent::All; // It is on its way.
        }
        let is_first = self.state == State::SynSent;
        let flags = if is_first { Flags::SYN } else { Flags::SYN_ACK };
        let window = self.receive_room(out.budget).min(usize::from(u16::MAX));
        let window = u16::try_from(window).unwrap_or(u16::MAX);
        let agreed = &self.agreed;
        let header = Header {
            seq: self.next,
            ack: if is_first { Seq(0) } else { self.receive_next },
            flags,
            window,
            options: syn_options(
                self.mss_max,
                (is_first || agreed.is_scaled).then_some(agreed.our_shift),
                is_first || agreed.has_sack,
                agreed.timestamps,
                out.now,
            ),
        };
        if !out.route.send_bare(out.port, &header) {
            return Sent::Blocked;
        }
        // A window was promised once and is not taken back, also if the SYN goes again.
        if is_first {
            self.promised_in_syn = self.promised_in_syn.max(u32::from(window));
        } else {
            self.promised = self.promised.max(self.receive_next + u32::from(window));
            self.acknowledged();
        }
        self.next = self.unacknowledged + 1;
        self.timed = (self.rtt.backoff() == 0).then_some((self.next, out.now));
        self.timer = Some((out.now + self.rtt.timeout(), TimerKind::Retransmit));
        Sent::All
    }

    fn send_parts(&mut self, out: &mut Output<'_>) -> Sent {
        let is_idle = self.next == self.unacknowledged;
        if is_idle && out.now - self.last_sent > self.rtt.timeout() {
            self.congestion.idled(self.segment_size());
        }
        for _ in 0..BURST_MAX {
            let Some(part) = self.next_part(out) else { return Sent::All };
            if !self.send_part(&part, out) {
                return Sent::Blocked;
            }
        }
        Sent::More
    }

    /// What to send next, if anything may be sent.
    fn next_part(&self, out: &Output<'_>) -> Option<Part> {
        let mss = self.segment_size();
        let len_max = self.frame_len_max(out);
        let (in_flight, window) = (self.in_flight(), self.congestion.window());
        let room = window.saturating_sub(in_flight);
        if let Some(recovery) = &self.recovery
            && let Some((start, end)) = recovery.next_lost(self.unacknowledged, self.next)
        {
            let is_first = recovery.is_first(self.unacknowledged);
            let room = if is_first { room.max(mss) } else { room };
            if room < mss {
                return None;
            }
            let len = (end - start).min(whole_segments(room.min(len_max), mss));
            return Some(self.part(start, len, true));
        }
        self.next_new_part(room, len_max)
    }

    /// New data to send, if `room` is what the congestion window leaves.
    fn next_new_part(&self, room: u32, len_max: u32) -> Option<Part> {
        if self.is_fin_sent {
            return None;
        }
        let mss = self.segment_size();
        let unsent = length(self.send.len()) - (self.next - self.unacknowledged);
        let in_window = (self.unacknowledged + self.window).since(self.next);
        let len = unsent.min(in_window).min(room).min(len_max);
        if len == unsent {
            // The last of all may be as short as it is, and takes the FIN along.
            let is_fin_due = self.is_finishing;
            let may_send = len > 0 || is_fin_due;
            return may_send.then_some(Part {
                seq: self.next,
                len,
                has_fin: is_fin_due,
                is_repeated: false,
            });
        }
        if len >= mss {
            return Some(self.part(self.next, whole_segments(len, mss), false));
        }
        // RFC 9293, 3.8.6.2.1: no small segments, unless the peer never opens its window wider.
        let is_window_small = len == in_window && len > 0 && len >= self.window_max / 2;
        is_window_small.then(|| self.part(self.next, len, false))
    }

    /// The part of the stream of `len` sequence numbers from `seq` on; the last may be the FIN's.
    fn part(&self, seq: Seq, len: u32, is_repeated: bool) -> Part {
        let data_end = self.unacknowledged + length(self.send.len());
        let data_len = data_end.since(seq).min(len);
        let has_fin = is_repeated && self.is_fin_sent && data_len < len;
        Part { seq, len: data_len, has_fin, is_repeated }
    }

    /// Most payload for one frame: a segment, or as many as the device cuts apart.
    fn frame_len_max(&self, out: &Output<'_>) -> u32 {
        let mss = self.segment_size();
        let remote = &out.route.flow.remote.addr;
        if !out.route.link.segments_tcp(remote) {
            return mss;
        }
        let headers = header_len(*remote) + TCP_LEN + OPTIONS_RESERVE;
        whole_segments(length(PACKET_LEN_MAX - headers), mss)
    }

    /// Sends one part, or the front of it. Whether there was room.
    fn send_part(&mut self, part: &Part, out: &mut Output<'_>) -> bool {
        let offset = part.seq - self.unacknowledged;
        let options = self.options(out.now);
        // Blocks leave less room for data than there is in a segment without.
        let size = length(usize::from(self.agreed.mss) - options.len());
        let is_cut_by_device = out.route.link.segments_tcp(&out.route.flow.remote.addr);
        let len_max = if is_cut_by_device { part.len } else { part.len.min(size) };
        let cut = self.send.cut(offset, len_max as usize);
        let len = length(cut.len());
        let has_fin = part.has_fin && len == part.len;
        let mut flags = if has_fin { Flags::ACK.with(Flags::FIN) } else { Flags::ACK };
        if len > 0 && offset + len == length(self.send.len()) {
            flags = flags.with(Flags::PSH);
        }
        let window = self.promise(out.budget);
        let header = Header { seq: part.seq, ack: self.receive_next, flags, window, options };
        let segment_size = if len > size { u16::try_from(size).unwrap_or(u16::MAX) } else { 0 };
        let is_sent = self.send_cut(offset, cut, &header, segment_size, out);
        if is_sent {
            self.sent(&Part { len, has_fin, ..*part }, out.now);
        }
        is_sent
    }

    fn send_cut(
        &self,
        offset: u32,
        cut: Cut,
        header: &Header,
        segment_size: u16,
        out: &mut Output<'_>,
    ) -> bool {
        if cut.referenced == 0 {
            let fill = |payload: &mut [u8]| self.send.copy(offset, payload);
            return out.route.send(out.port, header, cut.copied, fill, segment_size);
        }
        let mut head = Head::new(cut.copied, |front| self.send.copy(offset, front));
        let mut pieces = [const { Bytes::new() }; REFERENCES_MAX];
        let behind = offset + length(cut.copied);
        let count = self.send.references(behind, cut.referenced, &mut pieces);
        out.route.send_pieces(out.port, header, &mut head, &pieces[..count], segment_size)
    }

    /// Notes that `part` was sent.
    fn sent(&mut self, part: &Part, now: Instant) {
        self.acknowledged();
        self.last_sent = now;
        if part.is_repeated {
            if let Some(recovery) = &mut self.recovery {
                let ours = self.agreed.timestamps;
                recovery.resent(part.end(), ours.map(|ours| Timestamps::clock(ours.offset, now)));
            }
            self.timed = None; // Karn's algorithm: an acknowledgement may be for either.
        } else {
            self.next = part.end();
            self.is_fin_sent |= part.has_fin;
            self.timed.get_or_insert((self.next, now));
        }
    }

    /// The header of a segment without data.
    fn header(&mut self, flags: Flags, seq: Seq, out: &Output<'_>) -> Header {
        let options = self.options(out.now);
        let window = self.promise(out.budget);
        Header { seq, ack: self.receive_next, flags, window, options }
    }

    /// The options of a segment of an established connection.
    fn options(&self, now: Instant) -> Options {
        let mut options = Options::none();
        if let Some(timestamps) = &self.agreed.timestamps {
            let value = Timestamps::clock(timestamps.offset, now);
            options.timestamp(Timestamp { value, echo: timestamps.recent });
        }
        if self.agreed.has_sack && self.receive.has_gaps() {
            let mut blocks = [(Seq(0), Seq(0)); BLOCKS_MAX];
            let count = self.receive.blocks(&mut blocks);
            options.sack(&blocks[..count]);
        }
        options
    }

    /// The window field: what there is room for, but never less than was promised before (RFC 9293,
    /// 3.8.6.2.2).
    fn promise(&mut self, budget: &BufferBudget) -> u16 {
        let shift = self.agreed.our_shift;
        let before = self.promised.since(self.receive_next);
        let mut window = length(self.receive_room(budget));
        let worth = (length(self.receive_limit) / 2).min(u32::from(self.agreed.mss));
        if window < before + worth {
            window = before;
        }
        // The field may lie a little under what was promised, in units of the scale; then over it.
        let field = (window >> shift).max(before.div_ceil(1 << shift));
        let field = u16::try_from(field).unwrap_or(u16::MAX);
        let end = self.receive_next + (u32::from(field) << shift);
        self.promised = self.promised.max(end);
        field
    }

    /// Does what the timer was set for.
    fn take_timeout(&mut self, now: Instant) {
        let Some((_, kind)) = self.timer.filter(|(at, _)| *at <= now) else { return };
        self.timer = None;
        match kind {
            TimerKind::WindowProbe => {
                self.rtt.back_off();
                // A window that stays small is as large as it gets: the override timeout of RFC 9293,
                // 3.8.6.2.1.
                self.window_max = self.window;
                self.is_window_probe_due = self.window == 0;
            }
            TimerKind::TailProbe => self.is_tail_probe_due = true,
            TimerKind::Retransmit => self.retransmit(),
        }
    }

    /// RFC 6298, 5.4 to 5.7.
    fn retransmit(&mut self) {
        self.rtt.back_off();
        self.timed = None;
        if self.state.is_opening() {
            self.next = self.unacknowledged;
            return;
        }
        let (first, next, mss) = (self.unacknowledged, self.next, self.segment_size());
        if first == next {
            return;
        }
        // What looked late may have been lost all the same.
        self.duplicates = DUPLICATES;
        let recovery = self.recovery.get_or_insert_with(|| Box::new(Recovery::new(first)));
        // The threshold falls once for a flight, however often its first segment is lost.
        self.congestion.timed_out(next - first, mss, recovery.has_timed_out());
        recovery.resend(first, next);
        if self.rtt.backoff() >= BLACK_HOLE_TIMEOUTS && next - first >= mss {
            let cautious = if self.agreed.mss > MSS_CAUTIOUS { MSS_CAUTIOUS } else { 0 };
            self.agreed.mss = cautious.max(self.mss_default.min(self.agreed.mss));
        }
    }

    /// What to send so that its acknowledgement tells what is missing at the end of a flight: new
    /// data, or the last segment once more (RFC 8985, 7.3).
    fn tail_probe(&self, out: &Output<'_>) -> Option<Part> {
        if self.next == self.unacknowledged {
            return None;
        }
        let mss = self.segment_size();
        self.next_new_part(mss, mss.min(self.frame_len_max(out))).or_else(|| {
            let len = mss.min(self.next - self.unacknowledged);
            Some(self.part(self.next - len, len, true))
        })
    }

    /// Sets the timer that is missing.
    fn set_timer(&mut self, now: Instant) {
        if self.unacknowledged == self.next {
            let is_set = self.timer.is_some_and(|(_, kind)| kind == TimerKind::WindowProbe);
            if self.send.len() == 0 {
                self.timer = None;
            } else if !is_set {
                self.timer = Some((now + self.rtt.timeout(), TimerKind::WindowProbe));
            }
            return;
        }
        if self.timer.is_none_or(|(_, kind)| kind == TimerKind::WindowProbe) {
            self.timer = Some(self.next_timeout(now));
        }
    }

    fn next_timeout(&self, now: Instant) -> (Instant, TimerKind) {
        let timeout = self.rtt.timeout();
        if self.is_local {
            // Nothing is lost on the way to a guest; a busy machine may let it wait.
            return (now + timeout.max(LOCAL_TIMEOUT_MIN), TimerKind::Retransmit);
        }
        let may_probe = self.agreed.has_sack && !self.is_tail_probed && self.recovery.is_none();
        if may_probe && let Some(rtt) = self.rtt.smoothed() {
            let is_single = self.next - self.unacknowledged <= self.segment_size();
            let delay = if is_single { PEER_ACK_DELAY } else { Duration::ZERO };
            let probe = (rtt * 2).max(TAIL_PROBE_MIN) + delay;
            if probe < timeout {
                return (now + probe, TimerKind::TailProbe);
            }
        }
        (now + timeout, TimerKind::Retransmit)
    }
}

/// Options that a segment may have without being longer than its device can cut: all there can be.
const OPTIONS_RESERVE: usize = 40;

/// The options of a SYN.
pub(super) fn syn_options(
    mss: u16,
    window_shift: Option<u8>,
    permits_sack: bool,
    timestamps: Option<Timestamps>,
    now: Instant,
) -> Options {
    let mut options = Options::none();
    options.mss(mss);
    if permits_sack {
        options.sack_permitted();
    }
    if let Some(Timestamps { offset, recent, .. }) = timestamps {
        options.timestamp(Timestamp { value: Timestamps::clock(offset, now), echo: recent });
    }
    if let Some(shift) = window_shift {
        options.window_shift(shift);
    }
    options
}

/// `len` without what makes no whole segment, if it makes any.
fn whole_segments(len: u32, mss: u32) -> u32 {
    if len < mss { len } else { len - len % mss }
}
