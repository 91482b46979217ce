//! What remains of a connection in TIME-WAIT (RFC 9293, 3.6.1): enough to answer a repeated FIN and
//! to tell old segments from a new connection, and nothing else.
use crate::flow::{Flow, SeededMap};
use crate::offload::tcp_header;
use alloc::collections::VecDeque;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// How long an ended connection is remembered.
const LIFETIME: Duration = Duration::from_secs(10);

/// Most ended connections remembered; beyond that, the oldest are forgotten.
const TOMBSTONES_MAX: usize = 8192;

/// The sequence numbers that the connection ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Next sequence number of ours.
    pub(crate) send_next: TcpSeqNumber,
    /// Next sequence number of the peer's.
    pub(crate) receive_next: TcpSeqNumber,
}

/// What to do with a segment for a remembered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Acknowledge once more: the peer missed our last acknowledgement.
    Acknowledge(Tombstone),
    /// Drop it.
    Ignore,
    /// It opens a new connection (RFC 9293, 3.10.7.4, TIME-WAIT; RFC 6191).
    New,
}

impl Tombstone {
    /// Where the connection stands after `packet` was sent. `None` for packets other than TCPv4.
    pub(crate) fn of_sent(packet: &[u8]) -> Option<Self> {
        let segment = TcpPacket::new_unchecked(packet.get(tcp_header(packet)?..)?);
        let controls = usize::from(segment.syn()) + usize::from(segment.fin());
        let payload = segment.as_ref().len().saturating_sub(usize::from(segment.header_len()));
        Some(Self {
            send_next: segment.seq_number() + payload + controls,
            receive_next: segment.ack_number(),
        })
    }

    fn judge(self, segment: &TcpRepr<'_>) -> Verdict {
        let is_new = segment.seq_number >= self.receive_next;
        match segment.control {
            TcpControl::Rst => Verdict::Ignore, // RFC 1337: a reset must not end TIME-WAIT.
            TcpControl::Syn if is_new && segment.ack_number.is_none() => Verdict::New,
            _ if segment.segment_len() > 0 => Verdict::Acknowledge(self),
            _ => Verdict::Ignore,
        }
    }
}

/// The connections in TIME-WAIT.
#[derive(Debug)]
pub(crate) struct Tombstones {
    by_flow: SeededMap<Flow, (Tombstone, Instant)>,
    by_age: VecDeque<(Instant, Flow)>,
}

impl Tombstones {
    pub(crate) fn new(seed: u64) -> Self {
        Self { by_flow: crate::flow::seeded_map(seed), by_age: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_flow.len()
    }

    pub(crate) fn insert(&mut self, flow: Flow, tombstone: Tombstone, now: Instant) {
        while self.by_age.len() >= TOMBSTONES_MAX {
            self.forget_oldest();
        }
        let expires = now + LIFETIME;
        self.by_flow.insert(flow, (tombstone, expires));
        self.by_age.push_back((expires, flow));
    }

    /// Judges a segment of `flow`; `None` if nothing is remembered of it.
    pub(crate) fn judge(&mut self, flow: &Flow, segment: &TcpRepr<'_>) -> Option<Verdict> {
        let (tombstone, _) = self.by_flow.get(flow)?;
        let verdict = tombstone.judge(segment);
        if verdict == Verdict::New {
            self.by_flow.remove(flow);
        }
        Some(verdict)
    }

    /// Whether `flow` is remembered.
    pub(crate) fn contains(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    /// Forgets what has expired.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.by_age.front().is_some_and(|(expires, _)| *expires <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((expires, flow)) = self.by_age.pop_front() else { return };
        // A flow that came back and ended again has a younger entry, which stays.
        if self.by_flow.get(&flow).is_some_and(|(_, newest)| *newest == expires) {
            self.by_flow.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn flow(port: u16) -> Flow {
        let end = |port| (Ipv4Addr::LOCALHOST.into(), port);
        Flow::new(end(80), end(port))
    }

    const TOMBSTONE: Tombstone =
        Tombstone { send_next: TcpSeqNumber(100), receive_next: TcpSeqNumber(200) };

    fn judge(control: TcpControl, seq: i32, ack: Option<i32>) -> Verdict {
        let segment = TcpRepr {
            src_port: 1,
            dst_port: 80,
            control,
            seq_number: TcpSeqNumber(seq),
            ack_number: ack.map(TcpSeqNumber),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        TOMBSTONE.judge(&segment)
    }

    #[test]
    fn segments_are_judged_as_rfc_9293_says() {
        assert_eq!(judge(TcpControl::Fin, 199, Some(100)), Verdict::Acknowledge(TOMBSTONE));
        assert_eq!(judge(TcpControl::None, 200, Some(100)), Verdict::Ignore);
        assert_eq!(judge(TcpControl::Rst, 200, None), Verdict::Ignore);
        assert_eq!(judge(TcpControl::Syn, 200, None), Verdict::New);
        assert_eq!(judge(TcpControl::Syn, 100, None), Verdict::Acknowledge(TOMBSTONE));
    }

    #[test]
    fn tombstones_expire_and_are_bounded() {
        let mut tombstones = Tombstones::new(1);
        for port in 0..=u16::MAX {
            tombstones.insert(flow(port), TOMBSTONE, Instant::from_secs(0));
        }
        assert_eq!(tombstones.len(), TOMBSTONES_MAX);
        tombstones.expire(Instant::from_secs(10));
        assert_eq!((tombstones.len(), tombstones.by_age.len()), (0, 0));
    }

    #[test]
    fn a_flow_that_ended_twice_is_remembered_from_its_second_end() {
        let mut tombstones = Tombstones::new(1);
        tombstones.insert(flow(1), TOMBSTONE, Instant::from_secs(0));
        tombstones.insert(flow(1), TOMBSTONE, Instant::from_secs(5));
        tombstones.expire(Instant::from_secs(10));
        assert!(tombstones.contains(&flow(1)));
        tombstones.expire(Instant::from_secs(15));
        assert!(!tombstones.contains(&flow(1)));
    }
}
