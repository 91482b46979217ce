//! Which connections have something to do.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// The keys of the connections to look at.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue(Mutex<VecDeque<usize>>);

impl ReadyQueue {
    pub(super) fn pop(&self) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn push(&self, key: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(key);
    }
}

/// Puts one connection into the queue, once until it is [taken](Self::taken).
#[derive(Debug)]
pub(super) struct Signal {
    key: usize,
    is_raised: AtomicBool,
    queue: Arc<ReadyQueue>,
}

impl Signal {
    pub(super) fn new(key: usize, queue: &Arc<ReadyQueue>) -> Arc<Self> {
        Arc::new(Self { key, is_raised: AtomicBool::new(false), queue: Arc::clone(queue) })
    }

    pub(super) fn raise(&self) {
        if !self.is_raised.swap(true, Ordering::Relaxed) {
            self.queue.push(self.key);
        }
    }

    /// The connection is being looked at: the next event counts again.
    pub(super) fn taken(&self) {
        self.is_raised.store(false, Ordering::Relaxed);
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}
