//! Fibers: blocking or long-running code on stacks of its own, beside the tasks.
//!
//! A fiber is a task whose body is a plain function. Where the function calls [`crate::run`] (every
//! blocking call of the C library does) or [`yield_now`], it is suspended and the loop goes on. The
//! stacks are the slots 1 and up that the image's manifest asks for; below each is a page that is not
//! mapped, so that an overflow ends in a crash report. A fiber that finds no free slot waits for one.
use crate::state::kernel;
use crate::task::{self, JoinHandle};
use crate::to_usize;
use crate::waker_set::{Key, WakerSet};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::mem::ManuallyDrop;
use core::num::NonZeroUsize;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use paravane_abi::start_info::StartInfo;

/// What a fiber gets each time it goes on: the waker of the task it runs in.
type Resume = *const Waker;

/// The fiber whose code is running.
#[derive(Clone, Copy)]
struct Current {
    yielder: *const Yielder<Resume, ()>,
    waker: Resume,
}

/// The free stacks, and the fiber that runs now.
pub(crate) struct State {
    slots: RefCell<Vec<Slot>>,
    slot_count: Cell<u32>,
    waiters: RefCell<WakerSet>,
    current: Cell<Option<Current>>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            slots: RefCell::new(Vec::new()),
            slot_count: Cell::new(0),
            waiters: RefCell::new(WakerSet::new()),
            current: Cell::new(None),
        }
    }

    /// Takes the stack slots into use, all but slot 0, which the guest was entered on.
    ///
    /// # Safety
    /// The slots are as the contract describes them, and nothing else uses them. Called once.
    pub(crate) unsafe fn add_stacks(&self, info: &StartInfo) {
        let size = u64::from(info.stack_size);
        let first = info.ram_base + info.stack_base;
        let mut slots = self.slots.borrow_mut();
        for index in (1..u64::from(info.stack_slots)).rev() {
            let low = NonZeroUsize::new(to_usize(first + index * size));
            let high = NonZeroUsize::new(to_usize(first + (index + 1) * size));
            slots.extend(low.zip(high).map(|(low, high)| Slot { low, high }));
        }
        self.slot_count.set(info.stack_slots - 1);
    }

    fn release(&self, slot: Slot) {
        self.slots.borrow_mut().push(slot);
        let waiters = self.waiters.borrow_mut().take_all();
        waiters.into_iter().for_each(Waker::wake);
    }
}

/// A stack slot, owned.
struct Slot {
    low: NonZeroUsize,
    high: NonZeroUsize,
}

// SAFETY: a slot is RAM from `low` to `high`, page-aligned, of at least 16 KiB (`STACK_SIZE_MIN`) of
// which the lowest page is not mapped. `State::add_stacks` makes one `Slot` of each.
unsafe impl Stack for Slot {
    fn base(&self) -> StackPointer {
        self.high
    }

    fn limit(&self) -> StackPointer {
        self.low
    }
}

/// Waits for a free stack.
#[derive(Default)]
struct Acquire {
    key: Option<Key>,
}

impl Future for Acquire {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        let fibers = &kernel().fibers;
        if let Some(slot) = fibers.slots.borrow_mut().pop() {
            return Poll::Ready(slot);
        }
        fibers.waiters.borrow_mut().register(&mut self.key, cx.waker());
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = kernel().fibers.waiters.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

/// Runs `function` on a fiber of its own, beside the caller. The handle gives its result; dropping
/// the handle lets the function run on. A panic in the function ends the guest, as everywhere.
///
/// # Panics
/// If the image's manifest has no stack slot for fibers.
pub fn run<F, T>(function: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    assert!(
        kernel().fibers.slot_count.get() > 0,
        "the image's manifest has one stack slot only; fibers need more"
    );
    task::spawn(async move {
        let slot = Acquire::default().await;
        let mut fiber = Fiber::new(slot, function);
        let output = poll_fn(|cx| fiber.resume(cx)).await;
        kernel().fibers.release(fiber.into_slot());
        output
    })
}

/// A function on its stack, started or not.
struct Fiber<T>(ManuallyDrop<Coroutine<Resume, (), T, Slot>>);

impl<T: 'static> Fiber<T> {
    fn new(slot: Slot, function: impl FnOnce() -> T + 'static) -> Self {
        let body = move |yielder: &Yielder<Resume, ()>, waker| {
            kernel().fibers.current.set(Some(Current { yielder, waker }));
            let output = function();
            kernel().fibers.current.set(None);
            output
        };
        Self(ManuallyDrop::new(Coroutine::with_stack(slot, body)))
    }

    fn resume(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match self.0.resume(cx.waker()) {
            CoroutineResult::Yield(()) => Poll::Pending,
            CoroutineResult::Return(output) => Poll::Ready(output),
        }
    }

    /// The slot of a fiber whose function has returned. Dropping a [`Fiber`] before that gives up its
    /// slot and what lies on it for good, as a stack cannot be unwound: only the end of the guest
    /// does that.
    fn into_slot(self) -> Slot {
        ManuallyDrop::into_inner(self.0).into_stack()
    }
}

/// Whether the running code is a fiber's.
pub(crate) fn is_current() -> bool {
    kernel().fibers.current.get().is_some()
}

/// Suspends the running fiber until its task is woken.
fn suspend(current: Current) -> Current {
    let fibers = &kernel().fibers;
    fibers.current.set(None);
    // SAFETY: the yielder lives at the root of the running fiber's stack until its function returns,
    // and this code runs in that function.
    let waker = unsafe { (*current.yielder).suspend(()) };
    let current = Current { waker, ..current };
    fibers.current.set(Some(current));
    current
}

/// Waits for `future` on the running fiber.
///
/// # Panics
/// Outside of fibers.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut current = kernel().fibers.current.get().expect("no fiber is running");
    loop {
        // SAFETY: the waker is borrowed by the `resume` that this fiber has been running in since
        // it was last suspended, and that has not returned.
        let mut context = Context::from_waker(unsafe { &*current.waker });
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        current = suspend(current);
    }
}

/// Lets everything else that is ready run first. For long computations; does nothing outside of a
/// fiber, where `task::yield_now` is to be awaited.
pub fn yield_now() {
    if is_current() {
        block_on(task::yield_now());
    }
}
