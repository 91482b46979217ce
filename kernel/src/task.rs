//! Tasks: futures that run beside each other on the one vCPU.
use crate::state::kernel;
use async_task::{Runnable, Task};
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Starts a task. It runs in the loop of [`crate::run`] even if nobody waits for its handle.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let schedule = |task: Runnable| kernel().executor.schedule(task);
    // SAFETY: the future is not `Send`, so its `Runnable` and, by `schedule`, its wakers must stay on
    // the thread they were made on: a guest is a single thread, the one vCPU. The future lives as
    // long as it likes, and `schedule` captures nothing.
    let (task, handle) = unsafe { async_task::spawn_unchecked(future, schedule) };
    task.schedule();
    JoinHandle(Some(handle))
}

/// Waits for the end of a task. Dropping it lets the task run on, unobserved.
#[derive(Debug)]
pub struct JoinHandle<T>(Option<Task<T>>);

impl<T> JoinHandle<T> {
    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_some_and(Task::is_finished)
    }

    /// Ends the task: its future is dropped instead of being polled again.
    pub fn abort(mut self) {
        drop(self.0.take());
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Some(task) => Pin::new(task).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// Lets everything else that is ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
