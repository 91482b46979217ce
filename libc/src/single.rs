//! State of a machine with one processor and no interrupts.
use core::cell::RefCell;

/// A value for a `static`, used by one piece of code at a time.
pub(crate) struct Single<T>(RefCell<T>);

// SAFETY: a guest has one vCPU and nothing preempts its code, so there is only ever one thread of
// execution; fibers take turns on it, and a `RefCell` tells if one of them kept a borrow. Tests, which
// do have threads, use no `static` of this type.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Lends the value to `use_it`, which must not suspend its fiber.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        use_it(&mut self.0.borrow_mut())
    }
}
