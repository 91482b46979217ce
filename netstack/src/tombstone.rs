//! What remains of a connection in TIME-WAIT (RFC 9293, 3.6.1): enough to answer a repeated FIN and
//! to tell old segments from a new connection, and nothing else.
use crate::flow::{Flow, SeededMap};
use crate::progress::Progress;
use alloc::collections::VecDeque;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{TcpControl, TcpRepr};

/// How long an ended connection is remembered.
const LIFETIME: Duration = Duration::from_secs(10);

/// Most ended connections remembered; beyond that, the oldest are forgotten.
const TOMBSTONES_MAX: usize = 8192;

/// What to do with a segment for a remembered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Acknowledge once more: the peer missed our last acknowledgement.
    Acknowledge(Progress),
    /// Drop it.
    Ignore,
    /// Drop it, and what is remembered of the connection.
    Forget,
    /// It opens a new connection (RFC 9293, 3.10.7.4, TIME-WAIT; RFC 6191).
    New,
}

/// Judges a segment for a connection that ended with `end`.
fn judge(end: Progress, segment: &TcpRepr<'_>) -> Verdict {
    let is_new = segment.seq_number >= end.receive_next;
    match segment.control {
        // A peer that opens the flow anew with an earlier sequence number resets what we answer to
        // its SYN, and then tries again. Others cannot guess the number (RFC 5961, 3.2).
        TcpControl::Rst if segment.seq_number == end.receive_next => Verdict::Forget,
        TcpControl::Rst => Verdict::Ignore,
        TcpControl::Syn if is_new && segment.ack_number.is_none() => Verdict::New,
        _ if segment.segment_len() > 0 => Verdict::Acknowledge(end),
        _ => Verdict::Ignore,
    }
}

/// The connections in TIME-WAIT.
#[derive(Debug)]
pub(crate) struct Tombstones {
    by_flow: SeededMap<Flow, (Progress, Instant)>,
    by_age: VecDeque<(Instant, Flow)>,
}

impl Tombstones {
    pub(crate) fn new(seed: u64) -> Self {
        Self { by_flow: crate::flow::seeded_map(seed), by_age: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_flow.len()
    }

    pub(crate) fn insert(&mut self, flow: Flow, end: Progress, now: Instant) {
        while self.by_age.len() >= TOMBSTONES_MAX {
            self.forget_oldest();
        }
        let expires = now + LIFETIME;
        self.by_flow.insert(flow, (end, expires));
        self.by_age.push_back((expires, flow));
    }

    /// Judges a segment of `flow`; `None` if nothing is remembered of it.
    pub(crate) fn judge(&mut self, flow: &Flow, segment: &TcpRepr<'_>) -> Option<Verdict> {
        let (end, _) = self.by_flow.get(flow)?;
        let verdict = judge(*end, segment);
        if matches!(verdict, Verdict::New | Verdict::Forget) {
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
    use smoltcp::wire::TcpSeqNumber;

    fn flow(port: u16) -> Flow {
        let end = |port| (Ipv4Addr::LOCALHOST.into(), port);
        Flow::new(end(80), end(port))
    }

    const END: Progress =
        Progress { send_next: TcpSeqNumber(100), receive_next: TcpSeqNumber(200) };

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
        super::judge(END, &segment)
    }

    #[test]
    fn segments_are_judged_as_rfc_9293_says() {
        assert_eq!(judge(TcpControl::Fin, 199, Some(100)), Verdict::Acknowledge(END));
        assert_eq!(judge(TcpControl::None, 200, Some(100)), Verdict::Ignore);
        assert_eq!(judge(TcpControl::Rst, 199, None), Verdict::Ignore);
        assert_eq!(judge(TcpControl::Rst, 200, None), Verdict::Forget);
        assert_eq!(judge(TcpControl::Syn, 200, None), Verdict::New);
        assert_eq!(judge(TcpControl::Syn, 100, None), Verdict::Acknowledge(END));
    }

    #[test]
    fn tombstones_expire_and_are_bounded() {
        let mut tombstones = Tombstones::new(1);
        for port in 0..=u16::MAX {
            tombstones.insert(flow(port), END, Instant::from_secs(0));
        }
        assert_eq!(tombstones.len(), TOMBSTONES_MAX);
        tombstones.expire(Instant::from_secs(10));
        assert_eq!((tombstones.len(), tombstones.by_age.len()), (0, 0));
    }

    #[test]
    fn a_flow_that_ended_twice_is_remembered_from_its_second_end() {
        let mut tombstones = Tombstones::new(1);
        tombstones.insert(flow(1), END, Instant::from_secs(0));
        tombstones.insert(flow(1), END, Instant::from_secs(5));
        tombstones.expire(Instant::from_secs(10));
        assert!(tombstones.contains(&flow(1)));
        tombstones.expire(Instant::from_secs(15));
        assert!(!tombstones.contains(&flow(1)));
    }
}
