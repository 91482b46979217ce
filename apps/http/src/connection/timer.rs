//! The one timer of a connection.
use super::exchange::NEVER;
use crate::platform::Clock;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// One timer for all deadlines of a connection. It is set again only when a deadline comes before the
/// time that it is set to, or when it goes off and the deadline has moved.
///
/// A connection is one task, whose waker stays the same: a timer that is set need not hear of it again.
pub(crate) struct Timer<C: Clock> {
    clock: C,
    sleep: Option<Pin<Box<C::Sleep>>>,
    set_to_ns: u64,
}

impl<C: Clock> Timer<C> {
    pub(crate) fn new(clock: C) -> Self {
        Self { clock, sleep: None, set_to_ns: NEVER }
    }

    /// Ready when the deadline has passed, which may move between two calls.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline_ns: impl Fn() -> u64) -> Poll<()> {
        loop {
            let deadline_ns = deadline_ns();
            if deadline_ns >= self.set_to_ns && self.clock.now_ns() < self.set_to_ns {
                return Poll::Pending;
            } else if deadline_ns <= self.clock.now_ns() {
                return Poll::Ready(());
            } else if deadline_ns == NEVER {
                (self.sleep, self.set_to_ns) = (None, NEVER);
                return Poll::Pending;
            }
            let mut sleep = Box::pin(self.clock.sleep_until(deadline_ns));
            if sleep.as_mut().poll(cx).is_pending() {
                (self.sleep, self.set_to_ns) = (Some(sleep), deadline_ns);
                return Poll::Pending;
            }
        }
    }

    /// Polls until something is ready; `None` if it fails or a time comes first.
    pub(super) async fn within<R>(
        &mut self,
        deadline_ns: u64,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Option<R> {
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.ok()),
            Poll::Pending => self.poll(cx, || deadline_ns).map(|()| None),
        })
        .await
    }
}
