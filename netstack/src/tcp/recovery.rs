//! Loss recovery: which bytes count as lost, which as in flight, and which to send again
//! (RFC 6675; without selective acknowledgements, RFC 6582). What counts as lost adapts to peers that get
//! segments out of order, once the peer's clock shows that a repetition was in vain (RFC 3522).
use super::congestion::Congestion;
use super::scoreboard::Scoreboard;
use super::sequence::Seq;

/// Duplicate acknowledgements that mean a loss (RFC 5681, 3.2), on a path that keeps the order.
pub(crate) const DUPLICATES: u16 = 3;

/// The most that reordering can make of them.
const DUPLICATES_MAX: u32 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Something arrived out of order; nothing is known to be lost.
    Watching,
    /// Losses are repaired as acknowledgements tell of them.
    Fast,
    /// The retransmission timer ran out: everything not known to have arrived counts as lost.
    Timeout,
}

/// What is known while not everything arrives in order.
#[derive(Debug)]
pub(crate) struct Recovery {
    board: Scoreboard,
    phase: Phase,
    /// When this is acknowledged, the recovery is over.
    point: Seq,
    /// In front of here, what is missing was sent again.
    retransmitted: Seq,
    /// In front of here, what is missing is lost.
    lost_below: Seq,
    /// Duplicate acknowledgements, of a peer that does not say what it has.
    duplicates: u32,
    /// What was known of the path before the loss, and what our clock showed when something was first
    /// sent again: while the loss may turn out to be none.
    doubt: Option<(Congestion, Option<u32>)>,
}

impl Recovery {
    pub(crate) fn new(acknowledged: Seq) -> Self {
        Self {
            board: Scoreboard::default(),
            phase: Phase::Watching,
            point: acknowledged,
            retransmitted: acknowledged,
            lost_below: acknowledged,
            duplicates: 0,
            doubt: None,
        }
    }

    /// The peer has this range.
    pub(crate) fn selected(&mut self, start: Seq, end: Seq) {
        self.board.add(start, end);
    }

    /// The peer repeats itself, and does not say what it has.
    pub(crate) fn duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }

    /// Whether lost data is being repaired.
    pub(crate) fn is_recovering(&self) -> bool {
        self.phase != Phase::Watching
    }

    /// Whether the retransmission timer ran out for what is being repaired.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.phase == Phase::Timeout
    }

    /// Whether the window may grow with what is acknowledged.
    pub(crate) fn may_grow(&self) -> bool {
        self.phase != Phase::Fast
    }

    /// Everything in front of `acknowledged` arrived. Whether all is well again.
    pub(crate) fn acknowledged(&mut self, acknowledged: Seq, mss: u32) -> bool {
        self.board.acknowledge(acknowledged);
        self.retransmitted = self.retransmitted.max(acknowledged);
        self.lost_below = self.lost_below.max(acknowledged);
        if self.is_recovering() && acknowledged >= self.point {
            self.phase = Phase::Watching;
            self.retransmitted = acknowledged;
            self.lost_below = acknowledged;
        }
        self.duplicates = 0;
        if self.phase == Phase::Fast && self.board.is_empty() {
            // A partial acknowledgement: what it points at is lost, too (RFC 6582, 3.2).
            self.lost_below = self.lost_below.max(acknowledged + mss);
            self.retransmitted = acknowledged;
        }
        self.phase == Phase::Watching && self.board.is_empty()
    }

    /// Looks for losses between `first`, which is not acknowledged, and `next`: below as many segments
    /// as `duplicates`, or all others. True if there is one and none was known before. `is_probed` says
    /// that a probe for a lost tail was sent.
    pub(crate) fn detect(
        &mut self,
        (first, next): (Seq, Seq),
        mss: u32,
        duplicates: u16,
        is_probed: bool,
    ) -> bool {
        let others = ((next - first) / mss).saturating_sub(1);
        let duplicates = u32::from(duplicates).min(others).max(u32::from(DUPLICATES));
        let lost = match self.board.lost_below(mss, duplicates) {
            None if is_probed => self.board.lowest(),
            None if self.duplicates >= duplicates => Some((first + mss).min(next)),
            lost => lost,
        };
        let Some(lost) = lost.filter(|lost| *lost > first) else { return false };
        if self.is_recovering() {
            if !self.board.is_empty() {
                self.lost_below = self.lost_below.max(lost);
            }
            return false;
        }
        self.phase = Phase::Fast;
        self.point = next;
        self.retransmitted = first;
        self.lost_below = lost;
        true
    }

    /// Everything in flight counts as lost: the retransmission timer ran out, or the path takes
    /// smaller packets only.
    pub(crate) fn resend(&mut self, first: Seq, next: Seq) {
        if self.board.lowest() == Some(first) {
            // The peer dropped what it had (RFC 2018, 8).
            self.board.clear();
        }
        self.phase = Phase::Timeout;
        self.doubt = None;
        self.point = next;
        self.retransmitted = first;
        self.lost_below = next;
        self.duplicates = 0;
    }

    /// Bytes between `first` and `next` that are on the way (RFC 6675, 4: SetPipe).
    pub(crate) fn in_flight(&self, first: Seq, next: Seq, mss: u32) -> u32 {
        let again = self.board.missing(first, self.retransmitted.min(self.lost_below));
        let not_lost = self.board.missing(self.lost_below.max(first), next);
        (again + not_lost).saturating_sub(self.duplicates.saturating_mul(mss))
    }

    /// What to send again next (RFC 6675, 4: NextSeg).
    pub(crate) fn next_lost(&self, first: Seq, next: Seq) -> Option<(Seq, Seq)> {
        if !self.is_recovering() {
            return None;
        }
        self.board.hole(self.retransmitted.max(first), self.lost_below.min(next))
    }

    /// Whether nothing was sent again yet: the first is sent whatever is in flight.
    pub(crate) fn is_first(&self, first: Seq) -> bool {
        self.retransmitted <= first
    }

    /// What was missing in front of `end` was sent again, when our clock showed `clock`.
    pub(crate) fn resent(&mut self, end: Seq, clock: Option<u32>) {
        self.retransmitted = self.retransmitted.max(end);
        if let Some((_, first)) = &mut self.doubt
            && first.is_none()
        {
            *first = clock;
            if clock.is_none() {
                self.doubt = None; // Nothing will tell.
            }
        }
    }

    /// A loss was found; `path` is what was known before.
    pub(crate) fn begin(&mut self, path: Congestion) {
        self.doubt = Some((path, None));
    }

    /// The first segment, at `first`, is acknowledged, by a peer that echoes when our clock showed `echo`. If
    /// that was before it was sent again, by no more than the timeout of `patience_ms`, it was late and not
    /// lost (RFC 3522): the recovery is over. Older echoes are of peers that echo anything. Gives back what was known of the path, and by how many segments of `mss` bytes it was late.
    pub(crate) fn acquit(
        &mut self,
        first: Seq,
        (echo, patience_ms): (u32, u32),
        mss: u32,
    ) -> Option<(Congestion, u16)> {
        let (path, resent_at) = self.doubt.take()?;
        let was_late = |at| (1..=patience_ms).contains(&Seq(at).since(Seq(echo)));
        if !resent_at.is_none_or(was_late) {
            return None;
        }
        let late = self.board.highest().map_or(0, |end| end.since(first) / mss + 1);
        self.phase = Phase::Watching;
        self.retransmitted = first;
        self.lost_below = first;
        Some((path, u16::try_from(late.min(DUPLICATES_MAX)).unwrap_or(u16::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 100;

    fn seq(n: u32) -> Seq {
        Seq(n * MSS)
    }

    #[test]
    fn blocks_above_a_hole_start_a_recovery_that_repairs_it_once() {
        let mut recovery = Recovery::new(seq(0));
        recovery.selected(seq(1), seq(3));
        assert!(!recovery.detect((seq(0), seq(10)), MSS, DUPLICATES, false));
        assert_eq!(recovery.in_flight(seq(0), seq(10), MSS), 8 * MSS);
        recovery.selected(seq(5), seq(6));
        recovery.selected(seq(7), seq(8));
        assert!(recovery.detect((seq(0), seq(10)), MSS, DUPLICATES, false));
        assert_eq!(recovery.next_lost(seq(0), seq(10)), Some((seq(0), seq(1))));
        // 3, 4, 6, 8 and 9 may be on their way; 0 is lost.
        assert_eq!(recovery.in_flight(seq(0), seq(10), MSS), 5 * MSS);
        recovery.resent(seq(1), None);
        assert_eq!(recovery.in_flight(seq(0), seq(10), MSS), 6 * MSS);
        assert_eq!(recovery.next_lost(seq(0), seq(10)), None);
        recovery.selected(seq(8), seq(10));
        assert!(!recovery.detect((seq(0), seq(10)), MSS, DUPLICATES, false));
        assert_eq!(recovery.next_lost(seq(0), seq(10)), Some((seq(3), seq(5))));
        assert!(!recovery.acknowledged(seq(3), MSS) && !recovery.may_grow());
        assert!(recovery.acknowledged(seq(10), MSS));
    }

    #[test]
    fn without_blocks_three_duplicates_and_partial_acknowledgements_tell() {
        let mut recovery = Recovery::new(seq(0));
        for expected in [false, false, true] {
            recovery.duplicate();
            assert_eq!(recovery.detect((seq(0), seq(10)), MSS, DUPLICATES, false), expected);
        }
        assert_eq!(recovery.next_lost(seq(0), seq(10)), Some((seq(0), seq(1))));
        recovery.resent(seq(1), None);
        assert_eq!(recovery.next_lost(seq(0), seq(10)), None);
        assert!(!recovery.acknowledged(seq(4), MSS));
        assert_eq!(recovery.next_lost(seq(4), seq(10)), Some((seq(4), seq(5))));
        assert!(recovery.acknowledged(seq(10), MSS));
    }

    #[test]
    fn after_a_timeout_all_that_is_missing_is_sent_again() {
        let mut recovery = Recovery::new(seq(0));
        recovery.selected(seq(2), seq(3));
        recovery.resend(seq(0), seq(5));
        assert_eq!(recovery.in_flight(seq(0), seq(5), MSS), 0);
        assert_eq!(recovery.next_lost(seq(0), seq(5)), Some((seq(0), seq(2))));
        recovery.resent(seq(2), None);
        assert_eq!(recovery.next_lost(seq(0), seq(5)), Some((seq(3), seq(5))));
        assert!(recovery.may_grow() && !recovery.acknowledged(seq(3), MSS));
        assert!(recovery.acknowledged(seq(5), MSS));
    }

    #[test]
    fn a_peer_that_drops_what_it_had_is_sent_it_again() {
        let mut recovery = Recovery::new(seq(0));
        recovery.selected(seq(0), seq(2));
        recovery.resend(seq(0), seq(5));
        assert_eq!(recovery.next_lost(seq(0), seq(5)), Some((seq(0), seq(5))));
    }

    #[test]
    fn a_probe_makes_any_block_tell_of_a_loss() {
        let mut recovery = Recovery::new(seq(0));
        recovery.selected(seq(4), seq(5));
        assert!(!recovery.detect((seq(0), seq(5)), MSS, DUPLICATES, false));
        assert!(recovery.detect((seq(0), seq(5)), MSS, DUPLICATES, true));
        assert_eq!(recovery.next_lost(seq(0), seq(5)), Some((seq(0), seq(4))));
    }

    #[test]
    fn a_segment_that_was_late_undoes_the_recovery_and_says_how_late() {
        let check = |echo: u32, expected: Option<u16>| {
            let mut recovery = Recovery::new(seq(0));
            recovery.selected(seq(1), seq(4));
            assert!(recovery.detect((seq(0), seq(10)), MSS, DUPLICATES, false));
            recovery.begin(Congestion::new(MSS));
            recovery.resent(seq(1), Some(1000));
            recovery.selected(seq(4), seq(7));
            let late = recovery.acquit(seq(0), (echo, 300), MSS).map(|(_, late)| late);
            assert_eq!((late, recovery.is_recovering()), (expected, expected.is_none()));
        };
        check(999, Some(8));
        check(1000, None);
        check(1001, None);
        check(700, Some(8));
        check(699, None);
        check(0, None);
    }

    #[test]
    fn reordering_takes_more_to_be_a_loss_but_never_more_than_there_is() {
        let lost = |in_flight: u32, selected: u32, duplicates| {
            let mut recovery = Recovery::new(seq(0));
            recovery.selected(seq(1), seq(1 + selected));
            recovery.detect((seq(0), seq(in_flight)), MSS, duplicates, false)
        };
        assert!(lost(30, 3, DUPLICATES) && !lost(30, 3, 8) && lost(30, 8, 8));
        assert!(!lost(6, 4, 8) && lost(6, 5, 8));
    }
}
