//! DMA memory with books: which bytes are allocated or shared, so that a device that touches others is
//! caught.
use crate::{Dma, RingMemory};
use bytes::Bytes;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::vec::Vec;

/// What is added to an address to get the device's, so that mixing them up does not go unnoticed.
const DMA_OFFSET: u64 = 0x4000_0000_0000;

#[derive(Debug, Default)]
struct Books {
    /// Layout of each allocation by its device address.
    live: RefCell<BTreeMap<u64, Layout>>,
    /// Address and length of what was shared, while it has users.
    shared: RefCell<Vec<Weak<Shared>>>,
    /// Bytes that may still be allocated; `None` for any number.
    limit: Cell<Option<usize>>,
}

/// Bytes that can be shared with a device.
#[derive(Debug)]
struct Shared(Vec<u8>);

/// A user of [`Shared`] as an owner of `Bytes`.
struct User(Arc<Shared>);

impl AsRef<[u8]> for User {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

/// A source of DMA memory on the process heap. Clones share their books.
#[derive(Clone, Debug, Default)]
pub struct Arena(Rc<Books>);

// SAFETY: memory comes zeroed from the process heap with the layout asked for; the device address is
// the address plus a constant, for shared bytes, too.
unsafe impl Dma for Arena {
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        if let Some(limit) = self.0.limit.get() {
            self.0.limit.set(Some(limit.checked_sub(layout.size())?));
        }
        // SAFETY: the trait says that the size is not 0.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.0.live.borrow_mut().insert(self.device_address(memory), layout);
        Some(memory)
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        let known = self.0.live.borrow_mut().remove(&self.device_address(memory));
        assert_eq!(known, Some(layout), "freed what was not allocated");
        // SAFETY: by the caller, it came from `allocate` with this layout.
        unsafe { dealloc(memory.as_ptr(), layout) }
    }

    fn reaches(&self, bytes: &[u8]) -> bool {
        self.is_shared(self.device_address(NonNull::from_ref(bytes).cast()), bytes.len())
    }

    fn device_address(&self, memory: NonNull<u8>) -> u64 {
        memory.expose_provenance().get() as u64 + DMA_OFFSET
    }
}

impl Arena {
    /// Bytes allocated at the moment.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.0.live.borrow().values().map(Layout::size).sum()
    }

    /// `bytes`, in memory that the device reaches for as long as they have a user. It reaches no others.
    #[must_use]
    pub fn share(&self, bytes: Vec<u8>) -> Bytes {
        let shared = Arc::new(Shared(bytes));
        let mut books = self.0.shared.borrow_mut();
        books.retain(|shared| shared.strong_count() > 0);
        books.push(Arc::downgrade(&shared));
        Bytes::from_owner(User(shared))
    }

    /// Number of pieces from [`share`](Self::share) that have users.
    #[must_use]
    pub fn shared(&self) -> usize {
        self.0.shared.borrow().iter().filter(|shared| shared.strong_count() > 0).count()
    }

    /// Lets allocation fail after `bytes` more.
    pub fn set_limit(&self, bytes: usize) {
        self.0.limit.set(Some(bytes));
    }

    /// Frees what is still allocated: what dropped queues have leaked. For fuzz targets, which make
    /// queues by the million.
    ///
    /// # Safety
    /// No buffer, queue or front-end with this memory is used or dropped any more.
    pub unsafe fn free_leaked(&self) {
        for (address, layout) in self.0.live.take() {
            let memory = usize::try_from(address - DMA_OFFSET).expect("64 bits");
            // SAFETY: by the caller.
            unsafe { dealloc(core::ptr::with_exposed_provenance_mut(memory), layout) }
        }
    }

    /// Whether the bytes are altogether in one allocation.
    fn is_live(&self, address: u64, len: usize) -> bool {
        let live = self.0.live.borrow();
        live.range(..=address).next_back().is_some_and(|(base, layout)| {
            usize::try_from(address - base).is_ok_and(|offset| offset + len <= layout.size())
        })
    }

    /// Whether the bytes are altogether in one shared piece that has users.
    fn is_shared(&self, address: u64, len: usize) -> bool {
        self.0.shared.borrow().iter().filter_map(Weak::upgrade).any(|shared| {
            let base = self.device_address(NonNull::from_ref(&shared.0[..]).cast());
            let offset = address.checked_sub(base).and_then(|o| usize::try_from(o).ok());
            offset.is_some_and(|offset| offset + len <= shared.0.len())
        })
    }

    /// The memory at a device address.
    ///
    /// # Panics
    /// If the bytes are not live: a driver has led its device astray.
    fn translate(&self, address: u64, len: usize) -> *mut u8 {
        let is_live = self.is_live(address, len);
        assert!(is_live, "{len} bytes at device address {address:#x} are not allocated");
        Self::pointer(address)
    }

    fn pointer(address: u64) -> *mut u8 {
        let address = usize::try_from(address - DMA_OFFSET).expect("64 bits");
        core::ptr::with_exposed_provenance_mut(address)
    }

    /// Reads as a device does.
    ///
    /// # Panics
    /// If the bytes are not DMA memory in use.
    #[must_use]
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; len];
        let is_shared = self.is_shared(address, len);
        let memory = if is_shared { Self::pointer(address) } else { self.translate(address, len) };
        // SAFETY: the bytes are shared ones in use, which nobody writes, or `translate` found them in a
        // live allocation, to which no reference is held, as the driver has given its buffers to the
        // queue.
        unsafe { memory.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Writes as a device does.
    ///
    /// # Panics
    /// If the bytes are not DMA memory in use.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        let memory = self.translate(address, bytes.len());
        // SAFETY: `translate` found the bytes in a live allocation; no reference to it is held.
        unsafe { memory.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Writes as a hostile device does, which may have no right to: not if the memory was freed.
    pub fn write_if_live(&self, address: u64, bytes: &[u8]) {
        if self.is_live(address, bytes.len()) {
            self.write(address, bytes);
        }
    }

    /// A device's view of ring memory whose first byte is at device address `base`.
    #[must_use]
    pub fn ring(&self, base: u64) -> ArenaRing {
        ArenaRing { arena: self.clone(), base }
    }
}

/// The device's view of ring memory in an [`Arena`].
#[derive(Clone, Debug)]
pub struct ArenaRing {
    arena: Arena,
    base: u64,
}

impl ArenaRing {
    fn cell<T>(&self, offset: usize) -> *mut T {
        self.arena.translate(self.base + offset as u64, size_of::<T>()).cast()
    }
}

impl RingMemory for ArenaRing {
    fn device_address(&self) -> u64 {
        self.base
    }

    fn load_u16(&self, offset: usize, order: Ordering) -> u16 {
        // SAFETY: ring memory lives for ever, is aligned as virtio demands, and both sides use only
        // atomic accesses. The same holds below.
        unsafe { AtomicU16::from_ptr(self.cell(offset)) }.load(order)
    }

    fn store_u16(&self, offset: usize, value: u16, order: Ordering) {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU16::from_ptr(self.cell(offset)) }.store(value, order);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU32::from_ptr(self.cell(offset)) }.load(Ordering::Relaxed)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU32::from_ptr(self.cell(offset)) }.store(value, Ordering::Relaxed);
    }

    fn store_u64(&self, offset: usize, value: u64) {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU64::from_ptr(self.cell(offset)) }.store(value, Ordering::Relaxed);
    }

    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}
