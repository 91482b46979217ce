//! What was received: bytes in order for the application, and stretches that wait for what is
//! missing before them.
use super::length;
use super::rope::Rope;
use super::sequence::Seq;
use crate::buffers::BufferBudget;
use alloc::vec::Vec;

/// Most stretches that wait. A peer that leaves more holes has to send again what is behind them.
const STRETCHES_MAX: usize = 64;

/// Most blocks in an acknowledgement: what fits together with timestamps (RFC 2018, 3).
pub(crate) const BLOCKS_MAX: usize = 3;

/// Bytes that arrived before those in front of them.
#[derive(Debug)]
struct Stretch {
    start: Seq,
    rope: Rope,
    /// Grows with each arrival.
    freshness: u32,
}

impl Stretch {
    fn end(&self) -> Seq {
        self.start + length(self.rope.len())
    }
}

/// The receive queue of a connection.
#[derive(Debug, Default)]
pub(crate) struct ReceiveQueue {
    ready: Rope,
    /// By sequence number, with gaps before each.
    stretches: Vec<Stretch>,
    arrivals: u32,
}

impl ReceiveQueue {
    /// Bytes that can be read.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Bytes in all.
    pub(crate) fn held(&self) -> usize {
        self.ready.len() + self.stretches.iter().map(|s| s.rope.len()).sum::<usize>()
    }

    pub(crate) fn has_gaps(&self) -> bool {
        !self.stretches.is_empty()
    }

    /// Some of the bytes that can be read next.
    pub(crate) fn front_mut(&mut self) -> &mut [u8] {
        self.ready.front_mut()
    }

    /// Takes bytes off the front.
    pub(crate) fn consume(&mut self, len: usize, budget: &mut BufferBudget) {
        self.ready.consume(len, budget);
    }

    /// Adds bytes that begin at `next`, the next sequence number; returns the one that is next now.
    pub(crate) fn push(&mut self, next: Seq, bytes: &[u8], budget: &mut BufferBudget) -> Seq {
        let next = next + length(self.ready.push(bytes, budget));
        if self.has_gaps() { self.close_gaps(next, budget) } else { next }
    }

    /// Moves what is in order now to the ready bytes.
    fn close_gaps(&mut self, mut next: Seq, budget: &mut BufferBudget) -> Seq {
        let in_order = self.stretches.iter().take_while(|s| s.start <= next).count();
        // Moving on may reach the next stretch only where there was no gap, and there always is one.
        for mut stretch in self.stretches.drain(..in_order) {
            let end = stretch.end();
            stretch.rope.consume(next.since(stretch.start) as usize, budget);
            self.ready.append(stretch.rope, budget);
            next = next.max(end);
        }
        if self.stretches.is_empty() {
            self.stretches = Vec::new();
        }
        next
    }

    /// Adds bytes that begin at `start`, behind a gap, where there are none yet.
    pub(crate) fn insert(&mut self, start: Seq, bytes: &[u8], budget: &mut BufferBudget) {
        let end = start + length(bytes.len());
        self.arrivals = self.arrivals.wrapping_add(1);
        let mut at = start;
        while at < end {
            // The first stretch that is not wholly in front of `at`.
            let index = self.stretches.partition_point(|s| s.end() <= at);
            let hole_end = match self.stretches.get_mut(index) {
                Some(stretch) if stretch.start <= at => {
                    stretch.freshness = self.arrivals;
                    at = stretch.end();
                    continue;
                }
                Some(stretch) => stretch.start.min(end),
                None => end,
            };
            let part = &bytes[(at - start) as usize..(hole_end - start) as usize];
            if !self.fill(index, at, part, budget) {
                break;
            }
            at = hole_end;
        }
    }

    /// Puts `bytes` into the hole in front of stretch `index`. Whether all of them found memory.
    fn fill(&mut self, index: usize, at: Seq, bytes: &[u8], budget: &mut BufferBudget) -> bool {
        let is_continued = index > 0 && self.stretches[index - 1].end() == at;
        let index = if is_continued { index - 1 } else { index };
        if !is_continued {
            if self.stretches.len() >= STRETCHES_MAX {
                return false;
            }
            let rope = Rope::default();
            self.stretches.insert(index, Stretch { start: at, rope, freshness: 0 });
        }
        let stretch = &mut self.stretches[index];
        stretch.freshness = self.arrivals;
        let is_whole = stretch.rope.push(bytes, budget) == bytes.len();
        let (end, is_empty) = (stretch.end(), stretch.rope.len() == 0);
        if is_empty {
            self.stretches.remove(index);
        } else if self.stretches.get(index + 1).is_some_and(|next| next.start == end) {
            let next = self.stretches.remove(index + 1);
            self.stretches[index].rope.append(next.rope, budget);
        }
        is_whole
    }

    /// The stretches to report, the one that changed last first (RFC 2018, 4).
    pub(crate) fn blocks(&self, blocks: &mut [(Seq, Seq); BLOCKS_MAX]) -> usize {
        let mut before = None;
        for (count, block) in blocks.iter_mut().enumerate() {
            let age = |s: &Stretch| self.arrivals.wrapping_sub(s.freshness);
            let key = |(index, s): &(usize, &Stretch)| (age(s), *index);
            let rest = self.stretches.iter().enumerate();
            let Some((index, stretch)) =
                rest.filter(|entry| before.is_none_or(|b| key(entry) > b)).min_by_key(key)
            else {
                return count;
            };
            before = Some((age(stretch), index));
            *block = (stretch.start, stretch.end());
        }
        BLOCKS_MAX
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, budget: &mut BufferBudget) {
        self.ready.consume(usize::MAX, budget);
        for mut stretch in core::mem::take(&mut self.stretches) {
            stretch.rope.consume(usize::MAX, budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::tests::LIMITS;
    use proptest::prelude::*;

    /// The byte that belongs at an offset of the stream.
    fn byte(offset: usize) -> u8 {
        (offset * 7 + offset / 256).to_le_bytes()[0]
    }

    fn part(offset: usize, len: usize) -> Vec<u8> {
        (offset..offset + len).map(byte).collect()
    }

    const START: Seq = Seq(u32::MAX - 3000);

    fn at(offset: usize) -> Seq {
        START + u32::try_from(offset).unwrap()
    }

    proptest! {
        #[test]
        fn any_order_of_arrival_gives_the_stream(
            arrivals in prop::collection::vec((0usize..6000, 1usize..2000), 1..60),
            read in prop::collection::vec(0usize..3000, 60),
        ) {
            let (mut queue, mut budget) =
                (ReceiveQueue::default(), BufferBudget::new(LIMITS));
            let mut known = alloc::vec![false; 8000];
            let (mut next, mut taken) = (0, 0);
            for ((offset, len), read) in arrivals.into_iter().zip(read) {
                known[offset..offset + len].fill(true);
                let end = offset + len;
                if end > next && offset <= next {
                    let skipped = next - offset;
                    let after = queue.push(at(next), &part(offset, len)[skipped..], &mut budget);
                    next = (after - START) as usize;
                } else if offset > next {
                    queue.insert(at(offset), &part(offset, len), &mut budget);
                }
                let expected = known.iter().take_while(|k| **k).count();
                prop_assert_eq!(next, expected);
                let all_known = known.iter().filter(|k| **k).count();
                prop_assert_eq!(queue.held(), all_known - taken);
                let mut blocks = [(START, START); BLOCKS_MAX];
                let count = queue.blocks(&mut blocks);
                for (start, end) in &blocks[..count] {
                    let (start, end) = ((*start - START) as usize, (*end - START) as usize);
                    prop_assert!(start > next && !known[start - 1] && !known[end]);
                    prop_assert!(known[start..end].iter().all(|k| *k));
                }
                if offset > next {
                    let (first, last) = (blocks[0].0 - START, blocks[0].1 - START);
                    prop_assert!((first as usize) <= end && offset <= last as usize);
                }
                let front = queue.front_mut();
                let len = read.min(front.len());
                prop_assert_eq!(&front[..len], &part(taken, len)[..]);
                queue.consume(len, &mut budget);
                taken += len;
            }
            queue.clear(&mut budget);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn bytes_that_came_one_by_one_share_their_memory() {
        let (mut queue, mut budget) = (ReceiveQueue::default(), BufferBudget::new(LIMITS));
        let mut next = at(0);
        for offset in (0..1000).step_by(2) {
            queue.insert(at(offset + 1), &part(offset + 1, 1), &mut budget);
            next = queue.push(next, &part(offset, 1), &mut budget);
        }
        assert_eq!((next, queue.ready_len()), (at(1000), 1000));
        assert_eq!(queue.front_mut(), part(0, 1000));
        assert_eq!(budget.used(), 2048);
    }

    #[test]
    fn holes_without_end_take_bounded_memory() {
        let (mut queue, mut budget) = (ReceiveQueue::default(), BufferBudget::new(LIMITS));
        for offset in 1..10_000 {
            queue.insert(at(2 * offset), b"x", &mut budget);
        }
        assert_eq!((queue.stretches.len(), queue.held()), (STRETCHES_MAX, STRETCHES_MAX));
        assert!(budget.used() <= STRETCHES_MAX * 2048);
    }
}
