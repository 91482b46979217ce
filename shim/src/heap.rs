//! The heap: memory that is handed out and not taken back.
//!
//! Everything lives as long as the machine: the shim allocates while it builds the domain, for a device that
//! is attached (once each), and for the report at the end, never for an ordinary hypercall.
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Room for the headers of the largest image that is not refused, several times.
const LEN: usize = 1 << 20;

/// The heap.
pub(super) struct Heap {
    memory: UnsafeCell<[u8; LEN]>,
    used: AtomicUsize,
}

// SAFETY: every byte is handed out once, by an atomic counter.
unsafe impl Sync for Heap {}

impl Heap {
    pub(super) const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; LEN]), used: AtomicUsize::new(0) }
    }
}

// SAFETY: blocks do not overlap, as `used` only grows, and lie in `memory`, which lives for ever.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.memory.get().cast::<u8>();
        let take = |used: usize| {
            let start = (base as usize + used).next_multiple_of(layout.align()) - base as usize;
            start.checked_add(layout.size()).filter(|&end| end <= LEN).map(|end| (start, end))
        };
        let relaxed = Ordering::Relaxed;
        let before = self.used.fetch_update(relaxed, relaxed, |used| Some(take(used)?.1));
        match before.ok().and_then(take) {
            Some((start, _)) => base.wrapping_add(start),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
