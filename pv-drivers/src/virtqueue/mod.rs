//! The driver side of a split virtqueue (virtio 1.2, 2.7), with or without EVENT_IDX.
mod chain;
mod layout;
mod memory;
mod shared;

pub use chain::{Chain, Segment};
pub use memory::{DmaRing, RingMemory};

use crate::Dma;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use layout::{DESCRIPTOR_NEXT, DESCRIPTOR_WRITE, Layout, USED_NO_NOTIFY};
use paravane_abi::device::{QueueSetup, feature};
use shared::SharedPieces;

/// How a device broke the rules of its used ring. The queue is dead from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// The used index moved further than there are chains in flight.
    UsedIndex {
        /// Entries that the device claims to have added.
        claimed: u16,
        /// Chains that were in flight.
        in_flight: u16,
    },
    /// A used entry names a descriptor that does not exist, or is not the head of a chain
    /// that the device was shown and has not used yet.
    Id(u32),
    /// A used entry claims more bytes than the chain has for the device to write.
    Length {
        /// Bytes claimed.
        claimed: u32,
        /// Bytes there are.
        writable: u64,
    },
}

/// The queue has too few free descriptors for a chain, or is dead. Gives the chain back.
#[derive(Debug)]
pub struct QueueFull<D: Dma, T>(pub Chain<D>, pub T);

/// A chain that the device has finished with.
#[derive(Debug)]
pub struct Used<D: Dma, T> {
    /// What was put beside the chain when it was added.
    pub token: T,
    /// The chain.
    pub chain: Chain<D>,
    /// Bytes that the device wrote, at most the sum of the writable segments.
    pub written: u32,
}

/// A chain that the device works on, and what belongs to it.
struct InFlight<D: Dma, T> {
    chain: Chain<D>,
    token: T,
    /// The available index of its entry.
    available: u16,
    /// Descriptors of the chain.
    count: u16,
    /// Whether some of them are of shared bytes.
    is_sharing: bool,
}

/// A split virtqueue whose chains carry a token `T` each.
///
/// A chain moves into the queue with [`add`](Self::add) and out of it with [`pop`](Self::pop); in
/// between nobody can reach its buffers. Bytes that are [shared](Self::add_sharing) with the device can be
/// read by anybody, and changed by nobody: the queue is one of their users. Dropping the queue leaks the
/// ring and whatever is in flight, as the device may still read or write there: the contract has no way
/// to take a device out of use.
pub struct VirtQueue<D: Dma, T, R: RingMemory = DmaRing<D>> {
    ring: ManuallyDrop<R>,
    layout: Layout,
    event_idx: bool,
    /// By head descriptor: what is in flight.
    in_flight: Vec<Option<ManuallyDrop<InFlight<D, T>>>>,
    in_flight_count: u16,
    /// The driver's own copy of the `next` fields, which the device cannot change. Free descriptors
    /// form a list through it, and so does every chain.
    next: Vec<u16>,
    free_head: u16,
    free_count: u16,
    shared: SharedPieces,
    /// Available index up to which entries are written.
    available: u16,
    /// Available index up to which the device has been shown entries.
    published: u16,
    /// Used index up to which entries are taken.
    used: u16,
    fault: Option<RingFault>,
}

impl<D: Dma, T> VirtQueue<D, T> {
    /// A queue of `size` entries (a power of two, at most
    /// [`QUEUE_SIZE_MAX`](paravane_abi::device::QUEUE_SIZE_MAX)) in DMA memory, for a device with
    /// which `features` were negotiated. `None` if the size is wrong or memory ran out.
    #[must_use]
    pub fn new(dma: &D, size: u16, features: u64) -> Option<Self> {
        let ring = DmaRing::new(dma, Self::ring_len(size)?)?;
        Self::with_ring(ring, size, features)
    }
}

impl<D: Dma, T, R: RingMemory> VirtQueue<D, T, R> {
    /// Bytes of ring memory that a queue of `size` entries needs; `None` if the size is wrong.
    #[must_use]
    pub fn ring_len(size: u16) -> Option<usize> {
        Layout::new(size).map(Layout::len)
    }

    /// As [`new`](VirtQueue::new), in zeroed ring memory of at least [`ring_len`](Self::ring_len).
    #[must_use]
    pub fn with_ring(ring: R, size: u16, features: u64) -> Option<Self> {
        let layout = Layout::new(size)?;
        Some(Self {
            ring: ManuallyDrop::new(ring),
            layout,
            event_idx: features & feature::RING_EVENT_IDX != 0,
            in_flight: (0..size).map(|_| None).collect(),
            in_flight_count: 0,
            next: (1..=size).collect(),
            free_head: 0,
            free_count: size,
            shared: SharedPieces::default(),
            available: 0,
            published: 0,
            used: 0,
            fault: None,
        })
    }

    /// What to tell the host with `ATTACH`.
    #[must_use]
    pub fn setup(&self) -> QueueSetup {
        self.layout.setup(self.ring.device_address())
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.layout.size()
    }

    /// Descriptors that are not in use; 0 once the queue is dead.
    #[must_use]
    pub fn free_descriptors(&self) -> u16 {
        if self.fault.is_some() { 0 } else { self.free_count }
    }

    /// Chains added and not popped yet.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.in_flight_count
    }

    /// Puts a chain into the ring. The device is shown it by the next [`publish`](Self::publish).
    ///
    /// # Errors
    /// The chain comes back if there are not enough free descriptors, or the queue is dead.
    pub fn add(&mut self, chain: Chain<D>, token: T) -> Result<(), QueueFull<D, T>> {
        self.add_parts(chain, &[], |_| 0, token)
    }

    /// As [`add`](Self::add), with the bytes of `shared` behind the segments that the device reads. The
    /// device reads them where they are; the queue is one of their users until the device has used the
    /// chain, for ever if it never does. Empty pieces take no descriptor.
    ///
    /// # Errors
    /// As for [`add`](Self::add), and if the device cannot reach a piece.
    pub fn add_sharing(
        &mut self,
        dma: &D,
        chain: Chain<D>,
        shared: &[Bytes],
        token: T,
    ) -> Result<(), QueueFull<D, T>> {
        if !shared.iter().all(|piece| piece.is_empty() || dma.reaches(piece)) {
            return Err(QueueFull(chain, token));
        }
        let address = |piece: &Bytes| dma.device_address(NonNull::from_ref(&piece[..]).cast());
        self.add_parts(chain, shared, address, token)
    }

    /// Adds a chain. `address` gives the device address of each piece of `shared` that is not empty.
    fn add_parts(
        &mut self,
        chain: Chain<D>,
        shared: &[Bytes],
        address: impl Fn(&Bytes) -> u64,
        token: T,
    ) -> Result<(), QueueFull<D, T>> {
        let shared_count = shared.iter().filter(|piece| !piece.is_empty()).count();
        let count = chain.descriptor_count() + shared_count;
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let is_sharable = shared.iter().all(|piece| u32::try_from(piece.len()).is_ok());
        if count == 0 || count > self.free_descriptors() || !is_sharable {
            return Err(QueueFull(chain, token));
        }
        let head = self.free_head;
        let mut left = count;
        for segment in chain.readable.iter().flatten() {
            self.write_descriptor(segment.device_address(), segment.len(), 0, &mut left);
        }
        for piece in shared.iter().filter(|piece| !piece.is_empty()) {
            self.shared.keep(self.size(), self.free_head, piece);
            // Exact, as just checked.
            let len = u32::try_from(piece.len()).unwrap_or(0);
            self.write_descriptor(address(piece), len, 0, &mut left);
        }
        for segment in chain.writable.iter().flatten() {
            let (address, len) = (segment.device_address(), segment.len());
            self.write_descriptor(address, len, DESCRIPTOR_WRITE, &mut left);
        }
        // Relaxed: the device reads the entry only after it saw the index that `publish` releases.
        self.ring.store_u16(self.layout.available_entry(self.available), head, Ordering::Relaxed);
        let (available, is_sharing) = (self.available, shared_count > 0);
        let in_flight = InFlight { chain, token, available, count, is_sharing };
        self.in_flight[usize::from(head)] = Some(ManuallyDrop::new(in_flight));
        self.available = self.available.wrapping_add(1);
        self.in_flight_count += 1;
        Ok(())
    }

    /// Shows the device all chains added since the last call. Returns whether it wants to be notified
    /// of them: one decision for the whole batch.
    ///
    /// # Ordering
    /// The index is stored with Release, so a device that sees it sees the descriptors and the
    /// entries. Then the driver reads `avail_event`, a *store followed by a load of another location*,
    /// which neither Release nor Acquire keeps in order, and which x86 reorders through its store
    /// buffer. The device does the mirror image before it goes to sleep: it stores `avail_event`,
    /// and loads the index once more. Without a full fence between both pairs, each side could read
    /// the other's old value: the device sleeps, having missed the chain, and the driver does not
    /// notify, having missed that the device wants it to. With the fences, one of the two sees the
    /// other's store.
    #[must_use = "a device that is not notified may sleep on"]
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.available);
        if new == old {
            return false;
        }
        self.ring.store_u16(self.layout.available_index(), new, Ordering::Release);
        self.published = new;
        self.ring.full_fence();
        if self.event_idx {
            let event = self.ring.load_u16(self.layout.available_event(), Ordering::Relaxed);
            crosses(event, old, new)
        } else {
            let flags = self.ring.load_u16(self.layout.used_flags(), Ordering::Relaxed);
            flags & USED_NO_NOTIFY == 0
        }
    }

    /// Takes the next chain that the device has finished with.
    ///
    /// # Errors
    /// What the device did wrong, now or earlier. The buffers in flight are lost: nobody knows which
    /// of them a broken device still writes to.
    pub fn pop(&mut self) -> Result<Option<Used<D, T>>, RingFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let popped = self.try_pop();
        self.fault = popped.as_ref().err().copied();
        popped
    }

    /// Asks for an event when the device finishes another chain. Returns whether it already has: then
    /// the event may not come, and the driver looks at the ring again before it waits.
    ///
    /// # Ordering
    /// The store of `used_event` and the load of the used index are a store followed by a load, as in
    /// [`publish`](Self::publish), and need the full fence for the same reason: the device stores the
    /// used index and then loads `used_event`.
    #[must_use = "waiting although there are used chains may be waiting for ever"]
    pub fn enable_events(&mut self) -> bool {
        // Without EVENT_IDX the available flags stay 0, which asks for an event for each chain.
        if self.event_idx {
            self.ring.store_u16(self.layout.used_event(), self.used, Ordering::Relaxed);
            self.ring.full_fence();
        }
        self.has_used()
    }

    /// Whether the device has finished a chain that was not popped yet.
    #[must_use]
    pub fn has_used(&self) -> bool {
        self.fault.is_none() && self.used_index() != self.used
    }

    /// Chains added that the device was not shown yet.
    fn unpublished(&self) -> u16 {
        self.available.wrapping_sub(self.published)
    }

    /// Acquire: what the device wrote before it moved the index is seen after this.
    fn used_index(&self) -> u16 {
        self.ring.load_u16(self.layout.used_index(), Ordering::Acquire)
    }

    fn try_pop(&mut self) -> Result<Option<Used<D, T>>, RingFault> {
        let claimed = self.used_index().wrapping_sub(self.used);
        if claimed == 0 {
            return Ok(None);
        }
        let in_flight = self.in_flight_count - self.unpublished();
        if claimed > in_flight {
            return Err(RingFault::UsedIndex { claimed, in_flight });
        }
        // Each field is read once, and only the copies are checked and used.
        let entry = self.layout.used_entry(self.used);
        let (id, written) = (self.ring.load_u32(entry), self.ring.load_u32(entry + 4));
        let (head, in_flight) = self.take(id, written)?;
        self.free_chain(head, in_flight.count, in_flight.is_sharing);
        self.used = self.used.wrapping_add(1);
        let InFlight { chain, token, .. } = in_flight;
        Ok(Some(Used { token, chain, written }))
    }

    /// Takes the chain with head `id` out of the books, if the device may claim to have used it.
    fn take(&mut self, id: u32, written: u32) -> Result<(u16, InFlight<D, T>), RingFault> {
        let head = u16::try_from(id).map_err(|_| RingFault::Id(id))?;
        let (published, unpublished) = (self.published, self.unpublished());
        let slot = self.in_flight.get_mut(usize::from(head)).ok_or(RingFault::Id(id))?;
        let shown = |chain: &&ManuallyDrop<InFlight<D, T>>| {
            chain.available.wrapping_sub(published) >= unpublished
        };
        let chain = &slot.as_ref().filter(shown).ok_or(RingFault::Id(id))?.chain;
        let writable = chain.writable_len();
        if u64::from(written) > writable {
            return Err(RingFault::Length { claimed: written, writable });
        }
        let in_flight = slot.take().ok_or(RingFault::Id(id))?;
        self.in_flight_count -= 1;
        Ok((head, ManuallyDrop::into_inner(in_flight)))
    }

    /// Writes a part of a chain into the first free descriptor. `left` is how many the chain still
    /// takes, this one included, and is counted down.
    fn write_descriptor(&mut self, address: u64, len: u32, flags: u16, left: &mut u16) {
        *left -= 1;
        let flags = if *left > 0 { flags | DESCRIPTOR_NEXT } else { flags };
        let offset = self.layout.descriptor(self.free_head);
        let next = self.next[usize::from(self.free_head)];
        self.ring.store_u64(offset, address);
        self.ring.store_u32(offset + 8, len);
        self.ring.store_u16(offset + 12, flags, Ordering::Relaxed);
        self.ring.store_u16(offset + 14, next, Ordering::Relaxed);
        self.free_head = next;
        self.free_count -= 1;
    }

    /// Puts the `count` descriptors of a chain back in front of the free list, to which its last one is
    /// linked, and gives up what they share.
    fn free_chain(&mut self, head: u16, count: u16, is_sharing: bool) {
        let mut last = head;
        for left in (0..count).rev() {
            if is_sharing {
                self.shared.release(last);
            }
            if left > 0 {
                last = self.next[usize::from(last)];
            }
        }
        self.next[usize::from(last)] = self.free_head;
        self.free_head = head;
        self.free_count += count;
    }
}

impl<D: Dma, T, R: RingMemory> fmt::Debug for VirtQueue<D, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtQueue")
            .field("size", &self.size())
            .field("in_flight", &self.in_flight_count)
            .field("available", &self.available)
            .field("used", &self.used)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// Whether an index that moved from `old` to `new` passed `event` (virtio 1.2, 2.7.10.1): whether
/// the entry at `event` is among the new ones. Indices are free-running modulo 2^16.
fn crosses(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
