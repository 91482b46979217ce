//! Deadlines of connections: a heap that is corrected lazily.
use crate::slab::SlabKey;
use alloc::collections::BinaryHeap;
use core::cmp::Reverse;
use smoltcp::time::Instant;

/// The heap is tidied when it has more entries than this many a connection, and this many at all.
const TIDY_FACTOR: usize = 4;
const TIDY_MIN: usize = 256;

/// The deadline of one connection and where the heap knows it.
///
/// Deadlines mostly move later (each packet restarts the retransmission timer), so an entry in the
/// heap may be early but never late: it is moved when it comes up, not when the deadline changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadline {
    due: Option<Instant>,
    queued: Option<Instant>,
}

impl Deadline {
    /// Whether the heap's entry of time `at` is the one that counts.
    fn is_queued_at(&self, at: Instant) -> bool {
        self.queued == Some(at)
    }
}

/// Which connection to look at next, and when.
#[derive(Debug, Default)]
pub(crate) struct TimerHeap {
    heap: BinaryHeap<Reverse<(Instant, SlabKey)>>,
}

impl TimerHeap {
    /// Sets the deadline of `key`.
    pub(crate) fn set(&mut self, key: SlabKey, deadline: &mut Deadline, due: Option<Instant>) {
        deadline.due = due;
        let Some(due) = due else { return };
        if deadline.queued.is_none_or(|queued| due < queued) {
            deadline.queued = Some(due);
            self.heap.push(Reverse((due, key)));
        }
    }

    /// Drops the entries that do not count any more, if they are many more than the `live`
    /// connections. `deadline` finds that of a connection.
    pub(crate) fn tidy<'a>(
        &mut self,
        live: usize,
        deadline: impl Fn(SlabKey) -> Option<&'a Deadline>,
    ) {
        if self.heap.len() > TIDY_FACTOR * live + TIDY_MIN {
            self.heap
                .retain(|&Reverse((at, key))| deadline(key).is_some_and(|d| d.is_queued_at(at)));
        }
    }

    /// When to call [`pop`](Self::pop) next; may be early.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|&Reverse((at, _))| at)
    }

    /// Takes out an entry that came up by `now`; [`is_due`](Self::is_due) tells whether it counts.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, SlabKey)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the connection whose entry of time `at` came up is due at `now`; if its deadline
    /// moved, the entry is moved along.
    pub(crate) fn is_due(
        &mut self,
        key: SlabKey,
        deadline: &mut Deadline,
        at: Instant,
        now: Instant,
    ) -> bool {
        if !deadline.is_queued_at(at) {
            return false; // An earlier entry was queued behind this one's back and counts instead.
        }
        deadline.queued = None;
        match deadline.due {
            Some(due) if due <= now => true,
            due => {
                self.set(key, deadline, due);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    fn at(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn fire(heap: &mut TimerHeap, deadline: &mut Deadline, now: Instant) -> usize {
        let mut fired = 0;
        while let Some((time, key)) = heap.pop(now) {
            fired += usize::from(heap.is_due(key, deadline, time, now));
        }
        fired
    }

    #[test]
    fn a_deadline_that_moves_later_costs_no_second_entry() {
        let key = Slab::new().insert(()).unwrap();
        let (mut heap, mut deadline) = (TimerHeap::default(), Deadline::default());
        for ms in [10, 20, 30] {
            heap.set(key, &mut deadline, Some(at(ms)));
        }
        assert_eq!(heap.heap.len(), 1);
        assert_eq!(fire(&mut heap, &mut deadline, at(15)), 0);
        assert_eq!(heap.next(), Some(at(30)));
        assert_eq!(fire(&mut heap, &mut deadline, at(30)), 1);
        assert_eq!(heap.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_to_and_fro_does_not_fill_the_heap() {
        let mut slab = Slab::new();
        let key = slab.insert(Deadline::default()).unwrap();
        let mut heap = TimerHeap::default();
        for ms in 0..100_000 {
            let deadline = slab.get_mut(key).unwrap();
            heap.set(key, deadline, Some(at(ms + 1)));
            heap.set(key, deadline, Some(at(ms + 60_000)));
            fire(&mut heap, deadline, at(ms + 1));
            heap.tidy(1, |key| slab.get(key));
        }
        assert!(heap.heap.len() <= TIDY_FACTOR + TIDY_MIN);
        let deadline = slab.get_mut(key).unwrap();
        assert_eq!(fire(&mut heap, deadline, at(159_998)), 0);
        assert_eq!(fire(&mut heap, deadline, at(159_999)), 1);
    }

    #[test]
    fn a_deadline_that_moves_earlier_fires_once() {
        let key = Slab::new().insert(()).unwrap();
        let (mut heap, mut deadline) = (TimerHeap::default(), Deadline::default());
        heap.set(key, &mut deadline, Some(at(30)));
        heap.set(key, &mut deadline, Some(at(10)));
        assert_eq!(fire(&mut heap, &mut deadline, at(10)), 1);
        heap.set(key, &mut deadline, None);
        assert_eq!(fire(&mut heap, &mut deadline, at(40)), 0);
    }
}
