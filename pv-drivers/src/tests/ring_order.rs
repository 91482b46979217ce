//! The order of the ring's memory accesses, with the device on another thread.
//!
//! The model checker runs every interleaving (up to a number of preemptions) and lets every load see
//! every value that the C11 memory model allows, so a missing Release, Acquire or fence shows. Both
//! sides sleep when they have nothing to do; a lost wake-up is a deadlock, which it reports.
use crate::model::DeviceQueue;
use crate::{Chain, Dma, DmaBuffer, RingMemory, Segment, VirtQueue};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU16, fence};
use paravane_abi::device::feature::RING_EVENT_IDX;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Arc;
use std::vec::Vec;

const SIZE: u16 = 2;
/// Chains that go through the queue: the second is the first that is not announced in any case, as
/// both sides begin with asking for the first.
const COUNT: u32 = 2;

/// DMA memory on the process heap; its device address is its address.
#[derive(Clone, Debug)]
struct Heap;

// SAFETY: the process heap gives memory as the layout demands, zeroed; addresses are linear.
unsafe impl Dma for Heap {
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the size is not 0.
        NonNull::new(unsafe { alloc_zeroed(layout) })
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: by the caller.
        unsafe { dealloc(memory.as_ptr(), layout) }
    }

    fn reaches(&self, _bytes: &[u8]) -> bool {
        true
    }

    fn device_address(&self, memory: NonNull<u8>) -> u64 {
        memory.addr().get() as u64
    }
}

/// Something that the driver needs and is deprived of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    /// There are no full fences.
    NoFences,
    /// This ordering is taken for Relaxed.
    Relaxed(Ordering),
}

/// Ring memory under the model checker.
#[derive(Clone, Debug)]
struct CheckedRing {
    cells: Arc<Vec<AtomicU16>>,
    /// What to leave out, to see that the tests notice.
    weakness: Option<Weakness>,
}

impl CheckedRing {
    fn new() -> Self {
        let len = VirtQueue::<Heap, (), Self>::ring_len(SIZE).unwrap();
        let cells = (0..len.div_ceil(2)).map(|_| AtomicU16::new(0)).collect();
        Self { cells: Arc::new(cells), weakness: None }
    }

    fn order(&self, order: Ordering) -> Ordering {
        if self.weakness == Some(Weakness::Relaxed(order)) { Ordering::Relaxed } else { order }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "halves are taken on purpose")]
impl RingMemory for CheckedRing {
    fn device_address(&self) -> u64 {
        0
    }

    fn load_u16(&self, offset: usize, order: Ordering) -> u16 {
        self.cells[offset / 2].load(self.order(order))
    }

    fn store_u16(&self, offset: usize, value: u16, order: Ordering) {
        self.cells[offset / 2].store(value, self.order(order));
    }

    fn load_u32(&self, offset: usize) -> u32 {
        let half = |offset| u32::from(self.load_u16(offset, Ordering::Relaxed));
        half(offset + 2) << 16 | half(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.store_u16(offset, value as u16, Ordering::Relaxed);
        self.store_u16(offset + 2, (value >> 16) as u16, Ordering::Relaxed);
    }

    fn store_u64(&self, offset: usize, value: u64) {
        self.store_u32(offset, value as u32);
        self.store_u32(offset + 4, (value >> 32) as u32);
    }

    fn full_fence(&self) {
        if self.weakness != Some(Weakness::NoFences) {
            fence(Ordering::SeqCst);
        }
    }
}

type Queue = VirtQueue<Heap, u32, CheckedRing>;

/// How one side waits for the other.
#[derive(Clone)]
enum Wait {
    /// It looks again and again, and needs no notification.
    Poll,
    /// It sleeps until it is notified.
    Sleep(Arc<Notify>),
}

impl Wait {
    /// Waits; `enable` asks for notifications and tells whether there is work already.
    fn wait(&self, enable: impl FnOnce() -> bool) {
        match self {
            Self::Poll => loom::thread::yield_now(),
            Self::Sleep(notify) => {
                if !enable() {
                    notify.wait();
                }
            }
        }
    }

    fn notify(&self) {
        if let Self::Sleep(notify) = self {
            notify.notify();
        }
    }
}

/// Serves [`COUNT`] chains. Writes as many bytes as the chain is long.
fn serve(mut device: DeviceQueue<CheckedRing>, device_wait: &Wait, driver_wait: &Wait) {
    for _ in 0..COUNT {
        let chain = loop {
            match device.take() {
                Some(chain) => break chain,
                None => device_wait.wait(|| device.enable_notifications()),
            }
        };
        assert_eq!(chain.writable.len(), 1, "descriptor published before it was written");
        device.finish(chain.head, chain.writable_len());
        if device.wants_event() {
            driver_wait.notify();
        }
    }
}

/// Adds [`COUNT`] chains, one by one.
fn submit(queue: &mut Queue, device_wait: &Wait) {
    for token in 0..COUNT {
        let buffer = DmaBuffer::new(&Heap, 1 + token as usize, 1).unwrap();
        queue.add(Chain::to_write(Segment::whole(buffer)), token).unwrap();
        if queue.publish() {
            device_wait.notify();
        }
    }
}

/// Collects [`COUNT`] chains.
fn collect(queue: &mut Queue, driver_wait: &Wait) {
    for _ in 0..COUNT {
        let used = loop {
            match queue.pop().expect("used index seen before its entry") {
                Some(used) => break used,
                None => driver_wait.wait(|| queue.enable_events()),
            }
        };
        assert_eq!(used.written, 1 + used.token, "used index seen before its entry");
    }
}

fn check(weakness: Option<Weakness>, device_wait: fn() -> Wait, driver_wait: fn() -> Wait) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let ring = CheckedRing::new();
        let weak_ring = CheckedRing { weakness, ..ring.clone() };
        let mut queue = Queue::with_ring(weak_ring, SIZE, RING_EVENT_IDX).unwrap();
        let device = DeviceQueue::new(ring, &queue.setup(), true);
        let waits = (device_wait(), driver_wait());
        let device_waits = waits.clone();
        let thread = loom::thread::spawn(move || serve(device, &device_waits.0, &device_waits.1));
        submit(&mut queue, &waits.0);
        if let Wait::Poll = waits.1 {
            // Looking again and again at a device that sleeps on would never end: this does.
            thread.join().unwrap();
            collect(&mut queue, &waits.1);
        } else {
            collect(&mut queue, &waits.1);
            thread.join().unwrap();
        }
    });
}

fn poll() -> Wait {
    Wait::Poll
}

fn sleep() -> Wait {
    Wait::Sleep(Arc::new(Notify::new()))
}

#[test]
fn no_wakeup_is_lost_and_no_entry_is_seen_early() {
    check(None, sleep, sleep);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_in_publish_the_device_sleeps_on() {
    check(Some(Weakness::NoFences), sleep, poll);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_in_enable_events_the_driver_sleeps_on() {
    check(Some(Weakness::NoFences), poll, sleep);
}

#[test]
#[should_panic(expected = "published before it was written")]
fn without_release_a_descriptor_is_published_early() {
    check(Some(Weakness::Relaxed(Ordering::Release)), sleep, sleep);
}

#[test]
#[should_panic(expected = "seen before its entry")]
fn without_acquire_a_used_entry_is_read_early() {
    check(Some(Weakness::Relaxed(Ordering::Acquire)), sleep, sleep);
}
