//! The kernel's state: one value, reached through [`kernel`].
use crate::{block, console, entropy, executor, fiber, hypercall, memory, net, start, stop, time};

/// All state of the kernel, a part for each module. The parts are cells that hand out no reference
/// across a call into foreign code; a module that breaks this rule panics in its `RefCell` instead of
/// corrupting anything.
pub(crate) struct Kernel {
    pub(crate) hypercalls: hypercall::State,
    pub(crate) start: start::State,
    pub(crate) memory: memory::State,
    pub(crate) clock: time::Clock,
    pub(crate) timers: time::TimerQueue,
    pub(crate) executor: executor::State,
    pub(crate) fibers: fiber::State,
    pub(crate) console: console::State,
    pub(crate) entropy: entropy::State,
    pub(crate) stop: stop::State,
    pub(crate) block: block::State,
    pub(crate) net: net::State,
}

impl Kernel {
    pub(crate) const fn new() -> Self {
        Self {
            hypercalls: hypercall::State::new(),
            start: start::State::new(),
            memory: memory::State::new(),
            clock: time::Clock::new(),
            timers: time::TimerQueue::new(),
            executor: executor::State::new(),
            fibers: fiber::State::new(),
            console: console::State::new(),
            entropy: entropy::State::new(),
            stop: stop::State::new(),
            block: block::State::new(),
            net: net::State::new(),
        }
    }
}

/// The kernel of this guest.
#[cfg(not(test))]
#[inline]
pub(crate) fn kernel() -> &'static Kernel {
    /// A value that only the guest's one vCPU can reach.
    struct SingleCpu<T>(T);

    // SAFETY: a guest has one vCPU and its code is never interrupted (no interrupts, no signals, no
    // preemption; fibers switch only where they ask to), so two accesses never happen at once and
    // the cells inside are used as if by a single thread.
    unsafe impl<T> Sync for SingleCpu<T> {}

    static KERNEL: SingleCpu<Kernel> = SingleCpu(Kernel::new());
    &KERNEL.0
}

/// The kernel of the simulated guest that runs on this thread, see [`crate::fake_host`].
#[cfg(test)]
pub(crate) fn kernel() -> &'static Kernel {
    crate::fake_host::kernel()
}
