//! Giving memory back to the host.
//!
//! Freed pages stay with the guest while it is busy: touching a page anew costs more than keeping it.
//! When the guest goes to sleep, and enough was freed in large pieces since it last did this, the
//! free spans of the heap are found by allocating them, their pages released, and the spans freed
//! again.
use super::regions::Regions;
use crate::hypercall;
use crate::state::kernel;
use crate::time::Instant;
use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;
use core::time::Duration;
use paravane_abi::layout::PAGE_SIZE;
use talc::DefaultBinning;
use talc::base::Talc;

/// Smallest free span that is looked at, bytes; also the smallest allocation that counts when it is
/// freed.
const SPAN_MIN: usize = 128 << 10;

/// Bytes to be freed before the heap is trimmed.
const FREED_MIN: usize = 1 << 20;

/// Least time between two trims.
const PERIOD: Duration = Duration::from_secs(1);

/// When the heap is to be trimmed.
#[derive(Debug)]
pub(super) struct Trimmer {
    freed: Cell<usize>,
    next: Cell<Instant>,
}

impl Trimmer {
    pub(super) const fn new() -> Self {
        Self { freed: Cell::new(0), next: Cell::new(Instant::from_nanos(0)) }
    }

    /// Notes that an allocation of `size` bytes was freed.
    pub(super) fn note_freed(&self, size: usize) {
        if size >= SPAN_MIN {
            self.freed.set(self.freed.get().saturating_add(size));
        }
    }

    /// Whether to trim now; if so, the next time is not before [`PERIOD`] has passed.
    fn is_due(&self, now: Instant) -> bool {
        let due = self.freed.get() >= FREED_MIN && now >= self.next.get();
        if due {
            self.freed.set(0);
            self.next.set(now + PERIOD);
        }
        due
    }
}

/// A free span that was allocated in order to release its pages; the list of them lies in the spans
/// themselves.
struct Span {
    len: usize,
    next: Option<NonNull<Span>>,
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, align_of::<Span>()).expect("no span is longer than RAM")
}

/// Releases the pages of the heap's large free spans if that is worth while. For when the guest is
/// about to sleep.
pub(crate) fn trim_before_sleep(now: Instant) {
    let memory = &kernel().memory;
    if memory.trimmer.is_due(now) {
        trim(&mut memory.heap.borrow_mut());
    }
}

fn trim(heap: &mut Talc<Regions, DefaultBinning>) {
    let mut spans = None;
    let mut len = heap.source.grown().checked_next_power_of_two().unwrap_or(0);
    while len >= SPAN_MIN {
        // SAFETY: the size is not zero.
        match unsafe { heap.try_allocate(layout(len)) } {
            Some(memory) => {
                release_inner_pages(memory, len);
                let span = memory.cast::<Span>();
                // SAFETY: the span was just allocated, is aligned by its layout and large enough.
                unsafe { span.write(Span { len, next: spans }) };
                spans = Some(span);
            }
            None => len /= 2,
        }
    }
    while let Some(span) = spans {
        // SAFETY: the spans of the list were written above and are freed here, once.
        unsafe {
            let Span { len, next } = span.read();
            heap.deallocate(span.as_ptr().cast(), layout(len));
            spans = next;
        }
    }
}

/// Releases the whole pages of a span, except the first, which the list of spans needs.
fn release_inner_pages(memory: NonNull<u8>, len: usize) {
    let address = memory.addr().get() as u64;
    let start = (address + 1).next_multiple_of(PAGE_SIZE);
    let end = (address + len as u64) / PAGE_SIZE * PAGE_SIZE;
    let ram_base = crate::start::info().ram_base;
    // SAFETY: the span was just allocated and holds nothing yet behind its first page.
    let result = unsafe { hypercall::release(start - ram_base, end - start) };
    debug_assert_eq!(result, Ok(()));
}
