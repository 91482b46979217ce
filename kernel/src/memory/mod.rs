//! Memory: the heap over all RAM that is neither image nor stack.
//!
//! Images install [`Heap`] as their global allocator; the C library's `malloc` uses the functions.
mod regions;
mod trim;

use crate::state::kernel;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ptr::{NonNull, null_mut};
use paravane_abi::layout::{IMAGE_BASE, RAM_BASE};
use paravane_abi::start_info::StartInfo;
use regions::Regions;
use talc::DefaultBinning;
use talc::base::Talc;
use trim::Trimmer;

pub(crate) use trim::trim_before_sleep;

/// RAM below the image, bytes.
const LOW_RAM_LEN: u64 = IMAGE_BASE - RAM_BASE;

/// The heap of the guest.
pub(crate) struct State {
    heap: RefCell<Talc<Regions, DefaultBinning>>,
    used: Cell<usize>,
    peak: Cell<usize>,
    /// Size of an allocation that failed, if none succeeded since.
    failed: Cell<Option<usize>>,
    trimmer: Trimmer,
}

/// How much of the heap is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes allocated, as asked for.
    pub used: usize,
    /// Most bytes that were allocated at one time.
    pub peak: usize,
    /// Bytes that the heap has grown to; no other RAM was touched.
    pub grown: usize,
    /// Bytes that the heap can grow to.
    pub capacity: usize,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            heap: RefCell::new(Talc::new(Regions::new())),
            used: Cell::new(0),
            peak: Cell::new(0),
            failed: Cell::new(None),
            trimmer: Trimmer::new(),
        }
    }

    /// Hands the heap the RAM below the image and that behind the stacks.
    ///
    /// # Safety
    /// `info` describes this machine, and nothing else uses that RAM. Called once.
    pub(crate) unsafe fn add_free_ram(&self, info: &StartInfo) {
        let regions = &mut self.heap.borrow_mut().source;
        let high = info.stack_end();
        // SAFETY: by the caller.
        unsafe {
            regions.add(info.ram_base, LOW_RAM_LEN);
            regions.add(info.ram_base + high, info.ram_size - high);
        }
    }

    fn account(&self, freed: usize, allocated: usize) {
        let used = self.used.get() - freed + allocated;
        self.used.set(used);
        self.peak.set(self.peak.get().max(used));
        self.trimmer.note_used(used);
    }
}

/// Allocates memory. Null if there is none, or if the layout has no bytes.
#[must_use]
pub fn allocate(layout: Layout) -> *mut u8 {
    if layout.size() == 0 {
        return null_mut();
    }
    let memory = &kernel().memory;
    // SAFETY: the size is not zero.
    let allocated = unsafe { memory.heap.borrow_mut().allocate(layout) };
    if allocated.is_some() {
        memory.account(0, layout.size());
    }
    memory.failed.set(allocated.is_none().then_some(layout.size()));
    allocated.map_or(null_mut(), NonNull::as_ptr)
}

/// Frees memory.
///
/// # Safety
/// `pointer` came from this module with `layout`, is not null, and is not used any more.
pub unsafe fn deallocate(pointer: *mut u8, layout: Layout) {
    let memory = &kernel().memory;
    // SAFETY: by the caller.
    unsafe { memory.heap.borrow_mut().deallocate(pointer, layout) };
    memory.account(layout.size(), 0);
}

/// Changes the size of an allocation, in place where possible. Null if there is no memory; the
/// allocation is unchanged then.
///
/// # Safety
/// As for [`deallocate`], except that the old allocation stays valid if the result is null. `new_size`
/// is not zero and, rounded up to the alignment, not above `isize::MAX`.
pub unsafe fn reallocate(pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    let memory = &kernel().memory;
    // SAFETY: by the caller.
    if unsafe { memory.heap.borrow_mut().try_realloc_in_place(pointer, layout, new_size) } {
        memory.account(layout.size(), new_size);
        return pointer;
    }
    // SAFETY: by the caller; the alignment is a valid one as it comes from a layout.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    let new = allocate(new_layout);
    if !new.is_null() {
        // SAFETY: both allocations are that long at least, and distinct as both are live.
        unsafe { new.copy_from_nonoverlapping(pointer, layout.size().min(new_size)) };
        // SAFETY: by the caller.
        unsafe { deallocate(pointer, layout) };
    }
    new
}

/// How much of the heap is in use.
#[must_use]
pub fn stats() -> Stats {
    let memory = &kernel().memory;
    let heap = memory.heap.borrow();
    Stats {
        used: memory.used.get(),
        peak: memory.peak.get(),
        grown: heap.source.grown(),
        capacity: heap.source.capacity(),
    }
}

/// Why there was no memory, if the last attempt to get some failed.
pub(crate) fn shortage() -> Option<Shortage> {
    kernel().memory.failed.get().map(|wanted| Shortage { wanted, stats: stats() })
}

/// An allocation that failed.
pub(crate) struct Shortage {
    wanted: usize,
    stats: Stats,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, stats: Stats { used, capacity, .. } } = self;
        write!(
            f,
            "out of memory: {wanted} bytes wanted, {used} of {capacity} used; \
             give the guest more with --memory"
        )
    }
}

/// The heap as a global allocator:
/// `#[global_allocator] static HEAP: Heap = Heap;`
///
/// It returns null when memory runs out. Code that cannot do without then panics or aborts, and the
/// report of that says what was wanted and how much is used.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

// SAFETY: the functions of this module keep the contract of an allocator: talc does, and the memory
// that it manages is the kernel's for good. They do not unwind: a guest has no unwinding.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller.
        unsafe { deallocate(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: by the caller.
        unsafe { reallocate(pointer, layout, new_size) }
    }
}
