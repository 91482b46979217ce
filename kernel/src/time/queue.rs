//! The timers: a binary heap whose entries are removed lazily.
//!
//! Servers set a timeout for every operation and cancel almost all of them. Both are cheap here:
//! cancelling, or moving a deadline further away, only changes the timer's record; its entry in the
//! heap is put right when it comes to the top, or when the heap is mostly made of such leftovers.
use super::Instant;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::cmp::Reverse;
use core::task::Waker;

/// Leftovers that are tolerated in any heap.
const LEFTOVERS_MIN: usize = 64;

/// A timer that was set. Stays valid until [`TimerQueue::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(usize);

/// What is known of a timer.
#[derive(Debug)]
struct Timer {
    deadline: Instant,
    /// The deadline of the timer's entry in the heap, never later than `deadline`; `None` when the
    /// timer has no entry because it fired or its record is free.
    queued: Option<Instant>,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Inner {
    timers: Vec<Timer>,
    free: Vec<usize>,
    /// (deadline, record). An entry counts only if it is the `queued` of its record.
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

/// The timers of the guest.
pub(crate) struct TimerQueue(RefCell<Inner>);

impl TimerQueue {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Inner { timers: Vec::new(), free: Vec::new(), heap: BinaryHeap::new() }))
    }

    /// Sets the timer of `key`, or a new one: `waker` is woken at `deadline`.
    pub(crate) fn set(&self, key: &mut Option<Key>, deadline: Instant, waker: &Waker) {
        let mut inner = self.0.borrow_mut();
        let Key(index) = *key.get_or_insert_with(|| Key(inner.allocate(deadline)));
        let timer = &mut inner.timers[index];
        timer.deadline = deadline;
        let old = timer.waker.replace(waker.clone());
        inner.queue(index);
        drop(inner);
        drop(old); // outside of the borrow: it may be the last reference to a task
    }

    /// Takes the timer out.
    pub(crate) fn cancel(&self, Key(index): Key) {
        let mut inner = self.0.borrow_mut();
        let timer = &mut inner.timers[index];
        timer.queued = None;
        let old = timer.waker.take();
        inner.free.push(index);
        inner.compact();
        drop(inner);
        drop(old);
    }

    /// The deadline of a timer that is due at `now`: its waker, taken out.
    pub(crate) fn pop_due(&self, now: Instant) -> Option<Waker> {
        let mut inner = self.0.borrow_mut();
        while inner.peek()? <= now {
            let Reverse((_, index)) = inner.heap.pop()?;
            let timer = &mut inner.timers[index];
            timer.queued = None;
            if let Some(waker) = timer.waker.take() {
                return Some(waker);
            }
        }
        None
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.0.borrow_mut().peek()
    }
}

impl Inner {
    fn allocate(&mut self, deadline: Instant) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.timers.push(Timer { deadline, queued: None, waker: None });
            self.timers.len() - 1
        })
    }

    /// Makes sure that the timer has an entry in the heap which is not too late.
    fn queue(&mut self, index: usize) {
        let timer = &mut self.timers[index];
        if timer.queued.is_none_or(|queued| queued > timer.deadline) {
            timer.queued = Some(timer.deadline);
            let entry = Reverse((timer.deadline, index));
            self.heap.push(entry);
            self.compact();
        }
    }

    /// The earliest deadline, after putting right what is at the top of the heap.
    fn peek(&mut self) -> Option<Instant> {
        loop {
            let &Reverse((queued, index)) = self.heap.peek()?;
            let timer = &mut self.timers[index];
            if timer.queued == Some(queued) && timer.deadline <= queued {
                return Some(queued);
            }
            self.heap.pop();
            if timer.queued == Some(queued) {
                timer.queued = Some(timer.deadline);
                self.heap.push(Reverse((timer.deadline, index)));
            }
        }
    }

    /// Drops leftovers when they are most of the heap, which pays for the work with the operations
    /// that made them.
    fn compact(&mut self) {
        let live = self.timers.len() - self.free.len();
        if self.heap.len() > 2 * live + LEFTOVERS_MIN {
            let timers = &self.timers;
            self.heap.retain(|&Reverse((queued, index))| timers[index].queued == Some(queued));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    fn set(queue: &TimerQueue, ns: u64) -> Key {
        let mut key = None;
        queue.set(&mut key, at(ns), Waker::noop());
        key.unwrap()
    }

    fn due(queue: &TimerQueue, ns: u64) -> usize {
        core::iter::from_fn(|| queue.pop_due(at(ns))).count()
    }

    #[test]
    fn timers_fire_when_due_and_once() {
        let queue = TimerQueue::new();
        set(&queue, 30);
        set(&queue, 10);
        set(&queue, 10);
        assert_eq!(queue.next_deadline(), Some(at(10)));
        assert_eq!(due(&queue, 9), 0);
        assert_eq!(due(&queue, 10), 2);
        assert_eq!(due(&queue, 29), 0);
        assert_eq!(due(&queue, 100), 1);
        assert_eq!(queue.next_deadline(), None);
    }

    #[test]
    fn the_waker_set_last_is_woken() {
        let queue = TimerQueue::new();
        let (first, last) = (Arc::<Counter>::default(), Arc::<Counter>::default());
        let mut key = None;
        queue.set(&mut key, at(10), &first.clone().into());
        queue.set(&mut key, at(10), &last.clone().into());
        queue.pop_due(at(10)).unwrap().wake();
        assert_eq!((first.0.load(Relaxed), last.0.load(Relaxed)), (0, 1));
        assert_eq!(due(&queue, 10), 0);
    }

    #[test]
    fn cancelled_timers_do_not_fire_and_leave_nothing() {
        let queue = TimerQueue::new();
        for i in 0..100_000 {
            let key = set(&queue, 1_000_000 + i);
            queue.cancel(key);
        }
        assert_eq!(queue.next_deadline(), None);
        let inner = queue.0.borrow();
        assert!(inner.timers.len() == 1 && inner.heap.len() <= LEFTOVERS_MIN);
    }

    #[test]
    fn moving_a_deadline_away_keeps_one_entry() {
        let queue = TimerQueue::new();
        let mut key = None;
        for i in 0..1000 {
            queue.set(&mut key, at(1000 + i), Waker::noop());
        }
        assert_eq!(queue.0.borrow().heap.len(), 1);
        assert_eq!(queue.next_deadline(), Some(at(1999)));
        queue.set(&mut key, at(5), Waker::noop());
        assert_eq!(queue.next_deadline(), Some(at(5)));
        assert_eq!(due(&queue, 2000), 1);
    }

    proptest! {
        /// The queue against a plain map from timer to deadline.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0..8usize, 0..4u8, 0..50u64), 1..200)) {
            let queue = TimerQueue::new();
            let mut keys = [None; 8];
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (slot, action, ns) in steps {
                match action {
                    0 | 1 => {
                        queue.set(&mut keys[slot], at(now + ns), Waker::noop());
                        model.insert(slot, now + ns);
                    }
                    2 => {
                        keys[slot].take().into_iter().for_each(|key| queue.cancel(key));
                        model.remove(&slot);
                    }
                    _ => {
                        now += ns;
                        let expect = model.values().filter(|&&deadline| deadline <= now).count();
                        prop_assert_eq!(due(&queue, now), expect);
                        model.retain(|_, deadline| *deadline > now);
                    }
                }
                prop_assert_eq!(queue.next_deadline(), model.values().min().map(|&ns| at(ns)));
            }
        }
    }
}
