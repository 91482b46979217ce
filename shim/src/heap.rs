//! The heap: memory that is handed out and not taken back.
//!
//! Everything lives as long as the machine: the shim allocates while it builds the domain, for a device that
//! is attached (once each), and for the report at the end, never for an ordinary hypercall.
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Room for the headers of the largest image that is not refused, several times.
const FIRST_LEN: usize = 1 << 20;

struct Memory(UnsafeCell<[u8; FIRST_LEN]>);

// SAFETY: every byte is handed out once, by an atomic counter.
unsafe impl Sync for Memory {}

static FIRST: Memory = Memory(UnsafeCell::new([0; FIRST_LEN]));

/// Where memory is taken from: its start, its length, and how much is taken.
static BASE: AtomicPtr<u8> = AtomicPtr::new(FIRST.0.get().cast());
static LEN: AtomicUsize = AtomicUsize::new(FIRST_LEN);
static USED: AtomicUsize = AtomicUsize::new(0);

/// The heap, as an allocator.
#[derive(Debug)]
pub struct Heap;

/// Takes memory from the `len` bytes at `base` from now on.
///
/// # Safety
/// They are mapped for reading and writing for ever, and nobody else uses them.
pub unsafe fn refill(base: NonNull<u8>, len: usize) {
    BASE.store(base.as_ptr(), Ordering::Relaxed);
    LEN.store(len, Ordering::Relaxed);
    USED.store(0, Ordering::Relaxed);
}

// SAFETY: blocks do not overlap, as `USED` only grows until there is other memory, and lie in memory that
// lives for ever. There is one processor, and no interrupt handler allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = BASE.load(Ordering::Relaxed);
        let take = || {
            let next = (base as usize).checked_add(USED.load(Ordering::Relaxed))?;
            let start = next.checked_next_multiple_of(layout.align())? - base as usize;
            let end = start.checked_add(layout.size())?;
            (end <= LEN.load(Ordering::Relaxed)).then_some((start, end))
        };
        let Some((start, end)) = take() else { return ptr::null_mut() };
        USED.store(end, Ordering::Relaxed);
        base.wrapping_add(start)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
