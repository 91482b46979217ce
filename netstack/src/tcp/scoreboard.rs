//! What the peer says it received out of order (RFC 6675), and what that means is lost.
use super::sequence::Seq;
use alloc::vec::Vec;

/// Most ranges remembered. More are forgotten, and their data sent again.
const RANGES_MAX: usize = 128;

/// The ranges that a peer has behind what it acknowledges: in order, with gaps in between.
#[derive(Debug, Default)]
pub(crate) struct Scoreboard {
    ranges: Vec<(Seq, Seq)>,
}

impl Scoreboard {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The start of the first range.
    pub(crate) fn lowest(&self) -> Option<Seq> {
        self.ranges.first().map(|range| range.0)
    }

    /// Adds a range.
    pub(crate) fn add(&mut self, start: Seq, end: Seq) {
        // Ranges that overlap or touch the new one.
        let first = self.ranges.partition_point(|range| range.1 < start);
        let behind = self.ranges.partition_point(|range| range.0 <= end);
        if first == behind {
            if self.ranges.len() < RANGES_MAX {
                self.ranges.insert(first, (start, end));
            }
            return;
        }
        self.ranges[first] = (self.ranges[first].0.min(start), self.ranges[behind - 1].1.max(end));
        self.ranges.drain(first + 1..behind);
    }

    /// Forgets what lies in front of `acknowledged`.
    pub(crate) fn acknowledge(&mut self, acknowledged: Seq) {
        self.ranges.retain_mut(|range| {
            range.0 = range.0.max(acknowledged);
            range.0 < range.1
        });
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The end of the last range.
    pub(crate) fn highest(&self) -> Option<Seq> {
        self.ranges.last().map(|range| range.1)
    }

    /// In front of where everything that is missing counts as lost (RFC 6675, 4: IsLost): below as many
    /// ranges as `duplicates`, or as many segments less one.
    pub(crate) fn lost_below(&self, mss: u32, duplicates: u32) -> Option<Seq> {
        let (mut count, mut bytes) = (0, 0);
        let enough = (duplicates - 1) * mss;
        self.ranges.iter().rev().find_map(|range| {
            count += 1;
            bytes += range.1 - range.0;
            (count >= duplicates || bytes > enough).then_some(range.0)
        })
    }

    /// The first hole between `from` and `to`.
    pub(crate) fn hole(&self, from: Seq, to: Seq) -> Option<(Seq, Seq)> {
        let mut start = from;
        for range in &self.ranges {
            if range.0 > start {
                let end = range.0.min(to);
                return (start < end).then_some((start, end));
            }
            start = start.max(range.1);
        }
        (start < to).then_some((start, to))
    }

    /// Bytes in the holes between `from` and `to`.
    pub(crate) fn missing(&self, from: Seq, to: Seq) -> u32 {
        let held: u32 = self.ranges.iter().map(|r| r.1.min(to).since(r.0.max(from))).sum();
        to.since(from) - held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Seq = Seq(u32::MAX - 40);

    proptest! {
        #[test]
        fn the_scoreboard_is_a_set_of_bytes(
            actions in prop::collection::vec((0u32..100, 1u32..20, any::<bool>()), 1..30),
            from in 0u32..120,
            to in 0u32..120,
        ) {
            let mut board = Scoreboard::default();
            let mut model = [false; 120];
            let mut acknowledged = 0;
            for (start, len, is_ack) in actions {
                if is_ack {
                    acknowledged = acknowledged.max(start);
                    model[..start as usize].fill(false);
                    board.acknowledge(BASE + start);
                } else if start >= acknowledged {
                    model[start as usize..(start + len) as usize].fill(true);
                    board.add(BASE + start, BASE + start + len);
                }
            }
            let gaps: Vec<u32> = (from..to).filter(|&i| !model[i as usize]).collect();
            let missing = board.missing(BASE + from, BASE + to);
            prop_assert_eq!(missing as usize, gaps.len());
            let hole = board.hole(BASE + from, BASE + to);
            prop_assert_eq!(hole.map(|h| h.0 - BASE), gaps.first().copied());
            if let Some((start, end)) = hole {
                let (start, end) = (start - BASE, end - BASE);
                prop_assert!((start..end).all(|i| !model[i as usize]));
                prop_assert!(end == to || model[end as usize]);
            }
        }
    }

    #[test]
    fn three_ranges_or_more_than_two_segments_above_mean_a_loss() {
        let mut board = Scoreboard::default();
        assert_eq!(board.lost_below(100, 3), None);
        board.add(Seq(1000), Seq(1200));
        assert_eq!(board.lost_below(100, 3), None);
        board.add(Seq(1200), Seq(1201));
        assert_eq!(board.lost_below(100, 3), Some(Seq(1000)));
        let mut board = Scoreboard::default();
        for start in [300, 100, 200] {
            assert_eq!(board.lost_below(100, 3), None);
            board.add(Seq(start), Seq(start + 1));
        }
        assert_eq!(board.lost_below(100, 3), Some(Seq(100)));
    }

    #[test]
    fn ranges_are_bounded() {
        let mut board = Scoreboard::default();
        for start in 0..10_000 {
            board.add(Seq(2 * start), Seq(2 * start + 1));
        }
        assert_eq!(board.ranges.len(), RANGES_MAX);
    }
}
