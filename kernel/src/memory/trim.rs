//! Giving memory back to the host.
//!
//! Freed pages stay with the guest while it is busy: touching a page anew costs more than keeping it.
//! When the guest goes to sleep, and uses much less than at some time since it last did this, the free
//! spans of the heap are found by allocating them, their pages released, and the spans freed again.
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

/// Smallest free span that is looked at, bytes.
const SPAN_MIN: usize = 16 << 10;

/// Most spans that are released at once: each is a call of the host.
const SPANS_MAX: usize = 512;

/// Bytes less in use than at the peak, from which on the heap is trimmed.
const UNUSED_MIN: usize = 1 << 20;

/// Least time between two trims.
const PERIOD: Duration = Duration::from_secs(1);

/// When the heap is to be trimmed.
#[derive(Debug)]
pub(super) struct Trimmer {
    /// Most bytes in use since the last trim: about as many have pages.
    peak: Cell<usize>,
    next: Cell<Instant>,
}

impl Trimmer {
    pub(super) const fn new() -> Self {
        Self { peak: Cell::new(0), next: Cell::new(Instant::from_nanos(0)) }
    }

    /// Notes that `used` bytes are in use.
    pub(super) fn note_used(&self, used: usize) {
        self.peak.set(self.peak.get().max(used));
    }

    /// When to trim; `None` if there is little to gain.
    fn due(&self, used: usize) -> Option<Instant> {
        (self.peak.get() - used >= UNUSED_MIN).then(|| self.next.get())
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
/// about to sleep. Returns when it should be called again at the latest.
pub(crate) fn trim_before_sleep(now: Instant) -> Option<Instant> {
    let memory = &kernel().memory;
    let (trimmer, used) = (&memory.trimmer, memory.used.get());
    if trimmer.due(used)? <= now {
        trimmer.next.set(now + PERIOD);
        trimmer.peak.set(used);
        trim(&mut memory.heap.borrow_mut());
    }
    trimmer.due(used)
}

/// Releases free spans, the longest first.
fn trim(heap: &mut Talc<Regions, DefaultBinning>) {
    let (mut spans, mut count) = (None, 0);
    let mut len = heap.source.grown().checked_next_power_of_two().unwrap_or(0);
    while len >= SPAN_MIN && count < SPANS_MAX {
        // SAFETY: the size is not zero.
        match unsafe { heap.try_allocate(layout(len)) } {
            Some(memory) => {
                release_inner_pages(memory, len);
                let span = memory.cast::<Span>();
                // SAFETY: the span was just allocated, is aligned by its layout and large enough.
                unsafe { span.write(Span { len, next: spans }) };
                spans = Some(span);
                count += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_heap_is_trimmed_when_much_of_it_came_out_of_use() {
        let trimmer = Trimmer::new();
        for used in [MIB, 9 * MIB, 8 * MIB + 1] {
            trimmer.note_used(used);
            assert_eq!(trimmer.due(used), None);
        }
        trimmer.next.set(Instant::from_nanos(5));
        assert_eq!(trimmer.due(8 * MIB), Some(Instant::from_nanos(5)));
        trimmer.peak.set(8 * MIB);
        assert_eq!(trimmer.due(8 * MIB), None, "what came out of use has no pages any more");
    }
}
