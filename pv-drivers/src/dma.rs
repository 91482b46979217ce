//! Memory that a device may read and write.
use alloc::alloc::Layout;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A source of memory that devices can reach, and the addresses under which they do.
///
/// Cloning gives a handle to the same source; in a guest it is a unit struct.
///
/// # Safety
/// `allocate` returns memory that belongs to the caller alone until `deallocate`, is zeroed, and has
/// the size and alignment of the layout. `device_address` is linear over each such allocation, and over
/// bytes that `reaches` affirmed: a device that adds `n` to the address reaches the byte `n` further,
/// and nothing else.
pub unsafe trait Dma: Clone + fmt::Debug {
    /// Zeroed memory for `layout`, whose size is not 0; `None` if there is none left.
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Takes memory back.
    ///
    /// # Safety
    /// `memory` came from `allocate` of the same source with the same `layout`, nobody uses it any
    /// more, and no device was told of it that has not given it back.
    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout);

    /// Whether a device reaches all of `bytes`, which lie anywhere, for as long as they live.
    fn reaches(&self, bytes: &[u8]) -> bool;

    /// The device address of `memory`, which came from `allocate`, or lies in bytes that `reaches`
    /// affirmed.
    fn device_address(&self, memory: NonNull<u8>) -> u64;
}

/// Bytes in DMA memory, owned: by the driver, or by a virtqueue while the device works on them.
///
/// The memory is held by a raw pointer and not by a `Box`, because moving a `Box` asserts that nobody
/// else accesses its content, which is untrue while a device does.
pub struct DmaBuffer<D: Dma> {
    memory: NonNull<u8>,
    layout: Layout,
    dma: D,
}

// SAFETY: a buffer owns its memory like a `Box`, and what it needs to free it may change threads.
unsafe impl<D: Dma + Send> Send for DmaBuffer<D> {}

impl<D: Dma> DmaBuffer<D> {
    /// A zeroed buffer of `len` bytes whose address is a multiple of `align`.
    ///
    /// `None` if memory ran out, `len` is 0, or `align` is not a power of two.
    pub fn new(dma: &D, len: usize, align: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len, align).ok().filter(|l| l.size() > 0)?;
        let memory = dma.allocate(layout)?;
        Some(Self { memory, layout, dma: dma.clone() })
    }

    /// The address under which the device reaches the first byte.
    #[must_use]
    pub fn device_address(&self) -> u64 {
        self.dma.device_address(self.memory)
    }

    /// The first byte. Stays put when the buffer is moved.
    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        self.memory
    }
}

impl<D: Dma> Deref for DmaBuffer<D> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory was initialised (zeroed) by `Dma::allocate`, has this length, and is
        // owned by `self`: it is handed out mutably only through `deref_mut`, which borrows `self`.
        // A device works on it only while a virtqueue owns `self` and gives no access to it.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.layout.size()) }
    }
}

impl<D: Dma> DerefMut for DmaBuffer<D> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the mutable borrow of `self` makes the access exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_ptr(), self.layout.size()) }
    }
}

impl<D: Dma> Drop for DmaBuffer<D> {
    fn drop(&mut self) {
        // SAFETY: memory and layout are those of the allocation in `new`. No device holds it: a
        // virtqueue that is dropped forgets the buffers in flight instead of dropping them.
        unsafe { self.dma.deallocate(self.memory, self.layout) }
    }
}

impl<D: Dma> fmt::Debug for DmaBuffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaBuffer").field("len", &self.layout.size()).finish_non_exhaustive()
    }
}
