//! Access to the memory of a ring, which the device reads and writes at the same time.
use crate::{Dma, DmaBuffer};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use paravane_abi::layout::PAGE_SIZE;

/// The memory of one virtqueue's three parts.
///
/// Offsets are in bytes, multiples of the size of the access, and inside the memory: everything else
/// is a mistake of the driver and panics. Values are little-endian (virtio 1.2, 2.7).
///
/// The queue names the ordering of each access and fence, so that a model checker which stands in for
/// this memory checks the very same choices.
pub trait RingMemory {
    /// The device address of offset 0.
    fn device_address(&self) -> u64;
    /// Reads 16 bits.
    fn load_u16(&self, offset: usize, order: Ordering) -> u16;
    /// Writes 16 bits.
    fn store_u16(&self, offset: usize, value: u16, order: Ordering);
    /// Reads 32 bits, with no order of its own.
    fn load_u32(&self, offset: usize) -> u32;
    /// Writes 32 bits, with no order of its own.
    fn store_u32(&self, offset: usize, value: u32);
    /// Writes 64 bits, with no order of its own.
    fn store_u64(&self, offset: usize, value: u64);
    /// A sequentially consistent fence.
    fn full_fence(&self);
}

/// Ring memory in DMA memory.
#[derive(Debug)]
pub struct DmaRing<D: Dma>(DmaBuffer<D>);

impl<D: Dma> DmaRing<D> {
    /// Zeroed ring memory of `len` bytes, page-aligned; `None` if memory ran out.
    #[must_use]
    pub fn new(dma: &D, len: usize) -> Option<Self> {
        DmaBuffer::new(dma, len, usize::try_from(PAGE_SIZE).ok()?).map(Self)
    }

    /// Where the `T` at `offset` is.
    fn cell<T>(&self, offset: usize) -> *mut T {
        let in_bounds = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.0.len());
        assert!(in_bounds && offset.is_multiple_of(size_of::<T>()), "bad ring offset");
        // SAFETY: `offset` is inside the allocation, as just asserted.
        unsafe { self.0.as_ptr().as_ptr().add(offset).cast() }
    }

    fn atomic_u16(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: `cell` gives an aligned pointer (the memory is page-aligned) to two bytes that live
        // as long as `self`; the driver makes no plain access to them after `new`, and what the
        // device does is atomic by virtio's rules, and outside of this program anyway.
        unsafe { AtomicU16::from_ptr(self.cell(offset)) }
    }

    fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as in `atomic_u16`.
        unsafe { AtomicU32::from_ptr(self.cell(offset)) }
    }

    fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `atomic_u16`.
        unsafe { AtomicU64::from_ptr(self.cell(offset)) }
    }
}

impl<D: Dma> RingMemory for DmaRing<D> {
    fn device_address(&self) -> u64 {
        self.0.device_address()
    }

    fn load_u16(&self, offset: usize, order: Ordering) -> u16 {
        u16::from_le(self.atomic_u16(offset).load(order))
    }

    fn store_u16(&self, offset: usize, value: u16, order: Ordering) {
        self.atomic_u16(offset).store(value.to_le(), order);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        u32::from_le(self.atomic_u32(offset).load(Ordering::Relaxed))
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.atomic_u32(offset).store(value.to_le(), Ordering::Relaxed);
    }

    fn store_u64(&self, offset: usize, value: u64) {
        self.atomic_u64(offset).store(value.to_le(), Ordering::Relaxed);
    }

    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}
