//! The operator's request to end, as a state and as an event.
use crate::state::kernel;
use crate::waker_set::{Key, WakerSet};
use core::cell::{Cell, RefCell};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Whether a stop was requested, and who waits for it.
pub(crate) struct State {
    requested: Cell<bool>,
    waiters: RefCell<WakerSet>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { requested: Cell::new(false), waiters: RefCell::new(WakerSet::new()) }
    }

    /// Notes the request and wakes all who wait for it.
    pub(crate) fn request(&self) {
        if !self.requested.replace(true) {
            let waiters = self.waiters.borrow_mut().take_all();
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

/// Whether the operator asked the guest to end.
#[must_use]
pub fn is_stopping() -> bool {
    kernel().stop.requested.get()
}

/// Waits until the operator asks the guest to end. Ready at once from then on.
pub fn stop_requested() -> StopRequested {
    StopRequested { key: None }
}

/// Future of [`stop_requested`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct StopRequested {
    key: Option<Key>,
}

impl Future for StopRequested {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if is_stopping() {
            return Poll::Ready(());
        }
        kernel().stop.waiters.borrow_mut().register(&mut self.key, cx.waker());
        Poll::Pending
    }
}

impl Drop for StopRequested {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = kernel().stop.waiters.borrow_mut().remove(key);
            drop(waker); // outside of the borrow: it may be the last reference to a task
        }
    }
}
