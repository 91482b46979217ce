//! Memory that a device may read and write.
use alloc::alloc::Layout;
use alloc::sync::Arc;
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
    /// Bytes. A device can be told no larger number.
    len: u32,
    align: u32,
    dma: D,
    /// What the memory is a part of, if it was not allocated by itself.
    row: Option<Arc<Row<D>>>,
}

/// Memory of buffers of one size that lie one behind the other; it is freed with the last of them.
pub(crate) struct Row<D: Dma> {
    memory: NonNull<u8>,
    layout: Layout,
    dma: D,
}

// SAFETY: a buffer owns its memory like a `Box`, and what it needs to free it may change threads. What
// buffers of a row have in common is counted by an `Arc`, and not used before the last of them is dropped.
unsafe impl<D: Dma + Send> Send for DmaBuffer<D> {}

impl<D: Dma> Drop for Row<D> {
    fn drop(&mut self) {
        // SAFETY: memory and layout are those of the allocation in `DmaBuffer::new_row`. There is no buffer
        // in it any more, so no device holds one: see `DmaBuffer::drop`.
        unsafe { self.dma.deallocate(self.memory, self.layout) }
    }
}

impl<D: Dma> DmaBuffer<D> {
    /// A zeroed buffer of `len` bytes whose address is a multiple of `align`.
    ///
    /// `None` if memory ran out, `len` is 0 or 4 GiB, or `align` is not a power of two.
    pub fn new(dma: &D, len: usize, align: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len, align).ok().filter(|l| l.size() > 0)?;
        let (len, align) = (u32::try_from(len).ok()?, u32::try_from(align).ok()?);
        let memory = dma.allocate(layout)?;
        Some(Self { memory, len, align, dma: dma.clone(), row: None })
    }

    /// `count` zeroed buffers of `len` bytes each that lie one behind the other, the first at a multiple
    /// of `align`, and what they are parts of. `None` as for [`new`](Self::new).
    pub(crate) fn new_row(
        dma: &D,
        count: usize,
        len: usize,
        align: usize,
    ) -> Option<(Arc<Row<D>>, impl Iterator<Item = Self>)> {
        let size = len.checked_mul(count)?;
        let layout = Layout::from_size_align(size, align).ok().filter(|l| l.size() > 0)?;
        let (len_u32, align) = (u32::try_from(len).ok()?, u32::try_from(align).ok()?);
        let memory = dma.allocate(layout)?;
        let row = Arc::new(Row { memory, layout, dma: dma.clone() });
        let whole = row.clone();
        let buffers = (0..count).map(move |index| {
            // SAFETY: the allocation has `count` times `len` bytes.
            let memory = unsafe { whole.memory.add(index * len) };
            Self { memory, len: len_u32, align, dma: whole.dma.clone(), row: Some(whole.clone()) }
        });
        Some((row, buffers))
    }

    /// Whether the buffer is a part of `row`.
    pub(crate) fn is_part_of(&self, row: &Arc<Row<D>>) -> bool {
        self.row.as_ref().is_some_and(|own| Arc::ptr_eq(own, row))
    }

    /// The first `len` bytes of `first` and the buffers of `rest`, if these lie one behind the other in
    /// this order and have as many.
    pub(crate) fn span<'a>(
        first: &'a Self,
        rest: impl Iterator<Item = &'a Self>,
        len: usize,
    ) -> Option<&'a [u8]> {
        let row = first.row.as_ref()?;
        let (mut end, mut total) = (first.memory.addr().get() + first.len(), first.len());
        for next in rest {
            if !next.is_part_of(row) || next.memory.addr().get() != end {
                return None;
            }
            end += next.len();
            total += next.len();
        }
        if len > total {
            return None;
        }
        // SAFETY: the bytes are those of buffers that all are borrowed for this long, in one allocation, of
        // which `first.memory` may reach every byte as it was made from the pointer to the whole. For the
        // rest, as in `deref`.
        Some(unsafe { core::slice::from_raw_parts(first.memory.as_ptr(), len) })
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
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.len as usize) }
    }
}

impl<D: Dma> DerefMut for DmaBuffer<D> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the mutable borrow of `self` makes the access exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len as usize) }
    }
}

impl<D: Dma> Drop for DmaBuffer<D> {
    fn drop(&mut self) {
        if self.row.is_some() {
            return;
        }
        // SAFETY: size and alignment were those of a layout in `new`.
        let layout =
            unsafe { Layout::from_size_align_unchecked(self.len as usize, self.align as usize) };
        // SAFETY: memory and layout are those of the allocation in `new`. No device holds it: a
        // virtqueue that is dropped forgets the buffers in flight instead of dropping them.
        unsafe { self.dma.deallocate(self.memory, layout) }
    }
}

impl<D: Dma> fmt::Debug for DmaBuffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}
