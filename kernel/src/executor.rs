//! The executor: the one loop that everything in the guest runs in.
//!
//! A turn of the loop is: ready tasks, drivers hand over what the tasks produced, `WAIT`, drivers
//! take in what arrived, timers. A turn makes one `WAIT` however much it moved, so the cost of
//! entering the host is shared by all the work of the turn; it blocks only if there is nothing to do.
//! A turn runs a bounded number of tasks: tasks that keep each other busy starve nobody.
use crate::state::kernel;
use crate::time::{Instant, now};
use crate::{hypercall, memory};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use async_task::Runnable;
use core::cell::RefCell;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::task::{Context, Poll, Waker};
use paravane_abi::hypercall::{DEADLINE_NEVER, EVENT_STOP};

/// Most tasks that run in one turn of the loop.
const TASKS_PER_TURN: usize = 256;

/// Something that moves data between tasks and a device. The loop drives it; it wakes tasks.
pub trait Poller {
    /// Takes in what arrived. True if there is more to do at once, so that the guest must not sleep.
    fn poll(&mut self, now: Instant) -> bool;

    /// Hands over what tasks produced, notifies the device if it asked for that, and asks it to tell
    /// of news from now on. True if news is here already, so that the guest must not sleep.
    fn before_wait(&mut self, now: Instant) -> bool;

    /// When [`Poller::poll`] is to be called even without news.
    fn next_deadline(&mut self) -> Option<Instant>;
}

/// The run queue and the pollers.
pub(crate) struct State {
    ready: RefCell<VecDeque<Runnable>>,
    pollers: RefCell<Vec<Box<dyn Poller>>>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { ready: RefCell::new(VecDeque::new()), pollers: RefCell::new(Vec::new()) }
    }

    /// Queues a task that was woken.
    pub(crate) fn schedule(&self, task: Runnable) {
        self.ready.borrow_mut().push_back(task);
    }

    fn run_tasks(&self) {
        for _ in 0..TASKS_PER_TURN {
            // The borrow ends before the task runs, which may wake others.
            let Some(task) = ({ self.ready.borrow_mut().pop_front() }) else { return };
            task.run();
        }
    }

    fn is_idle(&self) -> bool {
        self.ready.borrow().is_empty()
    }

    fn poll(&self, now: Instant) -> bool {
        self.pollers.borrow_mut().iter_mut().fold(false, |busy, poller| poller.poll(now) | busy)
    }

    fn before_wait(&self, now: Instant) -> bool {
        let mut pollers = self.pollers.borrow_mut();
        pollers.iter_mut().fold(false, |busy, poller| poller.before_wait(now) | busy)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let mut pollers = self.pollers.borrow_mut();
        let devices = pollers.iter_mut().filter_map(|poller| poller.next_deadline());
        devices.chain(kernel().timers.next_deadline()).min()
    }
}

/// Adds a poller for the rest of the guest's life. Not to be called by a poller.
pub fn register_poller(poller: Box<dyn Poller>) {
    kernel().executor.pollers.borrow_mut().push(poller);
}

/// Whether the main future of one [`run`] was woken.
struct Signal(AtomicBool);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Runs tasks and devices until `future` is done, and returns its result. Tasks that are not done
/// then stay as they are until the next `run`.
///
/// On a fiber, only that fiber waits. In a task, the loop runs nested in the task: everything else goes
/// on, but nested loops end in the reverse order of their starts, whatever their futures wait for.
/// Code that blocks belongs on a fiber, see [`crate::fiber::run`].
///
/// # Panics
/// If called by a [`Poller`].
pub fn run<F: Future>(future: F) -> F::Output {
    if crate::fiber::is_current() {
        return crate::fiber::block_on(future);
    }
    let mut future = pin!(future);
    let signal = Arc::new(Signal(AtomicBool::new(true)));
    let waker = Waker::from(signal.clone());
    let mut context = Context::from_waker(&waker);
    let mut polled_busy = false;
    loop {
        if signal.0.swap(false, Relaxed)
            && let Poll::Ready(output) = future.as_mut().poll(&mut context)
        {
            flush();
            return output;
        }
        kernel().executor.run_tasks();
        polled_busy = turn(polled_busy || signal.0.load(Relaxed));
    }
}

/// The part of a turn behind the tasks. `busy` says that there is something to do at once; so does
/// the result.
fn turn(busy: bool) -> bool {
    let kernel = kernel();
    let start = now();
    let driver_busy = kernel.executor.before_wait(start);
    kernel.console.flush();
    let deadline = if busy || driver_busy || !kernel.executor.is_idle() {
        0
    } else {
        let trim = memory::trim_before_sleep(start).into_iter();
        let next = trim.chain(kernel.executor.next_deadline()).min();
        next.map_or(DEADLINE_NEVER, Instant::as_nanos)
    };
    wait(deadline);
    let now = now();
    let busy = kernel.executor.poll(now);
    // One at a time, as waking may drop a task, and with it timers.
    while let Some(waker) = kernel.timers.pop_due(now) {
        waker.wake();
    }
    busy
}

fn wait(deadline_ns: u64) {
    match hypercall::wait(deadline_ns) {
        Ok(events) if events & EVENT_STOP != 0 => kernel().stop.request(),
        Ok(_) => {}
        Err(error) => panic!("the host refuses to wait: {error:?}"),
    }
}

/// Hands over what tasks produced, without waiting.
fn flush() {
    kernel().executor.before_wait(now());
    kernel().console.flush();
}
