//! What remains of a connection in TIME-WAIT (RFC 9293, 3.6.1): enough to answer a repeated FIN and
//! to tell old segments from a new connection, and nothing else.
use crate::flow::{Flow, SeededMap};
use crate::tcp::Progress;
use crate::tcp::segment::{Flags, Segment};
use alloc::collections::VecDeque;
use smoltcp::time::{Duration, Instant};

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
fn judge(end: Progress, segment: &Segment<'_>) -> Verdict {
    let is_new = segment.seq >= end.receive_next;
    if segment.flags.has(Flags::RST) {
        // A peer that opens the flow anew with an earlier sequence number resets what we answer to
        // its SYN, and then tries again. Others cannot guess the number (RFC 5961, 3.2).
        let is_exact = segment.seq == end.receive_next;
        return if is_exact { Verdict::Forget } else { Verdict::Ignore };
    }
    if segment.flags.has(Flags::SYN) && is_new && !segment.flags.has(Flags::ACK) {
        Verdict::New
    } else if segment.len() > 0 {
        Verdict::Acknowledge(end)
    } else {
        Verdict::Ignore
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
    pub(crate) fn judge(&mut self, flow: &Flow, segment: &Segment<'_>) -> Option<Verdict> {
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
    use crate::tcp::sequence::Seq;
    use core::net::Ipv4Addr;

    fn flow(port: u16) -> Flow {
        let end = |port| (Ipv4Addr::LOCALHOST.into(), port);
        Flow::new(end(80), end(port))
    }

    const END: Progress = Progress { send_next: Seq(100), receive_next: Seq(200) };

    #[test]
    fn segments_are_judged_as_rfc_9293_says() {
        let judge = |seq, flags| judge(END, &Segment::of(seq, 100, flags, b""));
        assert_eq!(judge(199, Flags::FIN.with(Flags::ACK)), Verdict::Acknowledge(END));
        assert_eq!(judge(200, Flags::ACK), Verdict::Ignore);
        assert_eq!(judge(199, Flags::RST), Verdict::Ignore);
        assert_eq!(judge(200, Flags::RST), Verdict::Forget);
        assert_eq!(judge(200, Flags::SYN), Verdict::New);
        assert_eq!(judge(200, Flags::SYN_ACK), Verdict::Acknowledge(END));
        assert_eq!(judge(100, Flags::SYN), Verdict::Acknowledge(END));
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
