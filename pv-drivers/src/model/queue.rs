//! The device side of a split virtqueue (virtio 1.2, 2.7), written from the specification and sharing
//! no code with the driver side.
use crate::RingMemory;
use core::sync::atomic::Ordering;
use paravane_abi::device::QueueSetup;
use std::vec::Vec;

/// A chain as the device sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChain {
    /// The head descriptor, which names the chain in the used ring.
    pub head: u16,
    /// Device address and length of what the device reads.
    pub readable: Vec<(u64, u32)>,
    /// Device address and length of what the device writes.
    pub writable: Vec<(u64, u32)>,
}

impl DeviceChain {
    /// Bytes that the device can write.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        self.writable.iter().map(|(_, len)| len).sum()
    }
}

/// The device side of a virtqueue.
#[derive(Debug)]
pub struct DeviceQueue<R: RingMemory> {
    ring: R,
    size: u16,
    /// Offset of the available ring in the ring memory.
    available: usize,
    /// Offset of the used ring in the ring memory.
    used: usize,
    event_idx: bool,
    /// Available index up to which chains were taken.
    taken: u16,
    /// Used index up to which chains were given back.
    finished: u16,
    /// Used index at the last decision about an event.
    signalled: u16,
}

impl<R: RingMemory> DeviceQueue<R> {
    /// The device side of the queue that `setup` describes; `ring` begins with the descriptor table.
    ///
    /// # Panics
    /// If the parts are more than 4 GiB apart.
    pub fn new(ring: R, setup: &QueueSetup, event_idx: bool) -> Self {
        let offset = |part: u64| usize::try_from(part - setup.descriptors).expect("64 bits");
        Self {
            ring,
            size: setup.size,
            available: offset(setup.available),
            used: offset(setup.used),
            event_idx,
            taken: 0,
            finished: 0,
            signalled: 0,
        }
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.size)
    }

    /// Whether the driver has published chains that were not taken.
    #[must_use]
    pub fn has_available(&self) -> bool {
        self.ring.load_u16(self.available + 2, Ordering::Acquire) != self.taken
    }

    /// Takes the next chain.
    ///
    /// # Panics
    /// If the driver broke a rule.
    pub fn take(&mut self) -> Option<DeviceChain> {
        if !self.has_available() {
            return None;
        }
        let entry = self.available + 4 + 2 * self.slot(self.taken);
        let head = self.ring.load_u16(entry, Ordering::Relaxed);
        self.taken = self.taken.wrapping_add(1);
        Some(self.walk(head))
    }

    fn walk(&self, head: u16) -> DeviceChain {
        let mut chain = DeviceChain { head, readable: Vec::new(), writable: Vec::new() };
        let mut id = head;
        for _ in 0..self.size {
            assert!(id < self.size, "descriptor {id} does not exist");
            let offset = 16 * usize::from(id);
            let (low, high) = (self.ring.load_u32(offset), self.ring.load_u32(offset + 4));
            let segment = (u64::from(high) << 32 | u64::from(low), self.ring.load_u32(offset + 8));
            let flags = self.ring.load_u16(offset + 12, Ordering::Relaxed);
            if flags & 2 != 0 {
                chain.writable.push(segment);
            } else {
                assert!(chain.writable.is_empty(), "readable behind writable segments");
                chain.readable.push(segment);
            }
            if flags & 1 == 0 {
                return chain;
            }
            id = self.ring.load_u16(offset + 14, Ordering::Relaxed);
        }
        panic!("the chain at {head} has a loop");
    }

    /// Gives a chain back: `written` bytes of it were written.
    pub fn finish(&mut self, head: u16, written: u32) {
        self.write_used(self.finished, u32::from(head), written);
        self.set_used_index(self.finished.wrapping_add(1));
    }

    /// Writes the entry of used index `index`, which a hostile device may do at any time.
    pub fn write_used(&mut self, index: u16, id: u32, written: u32) {
        let entry = self.used + 4 + 8 * self.slot(index);
        self.ring.store_u32(entry, id);
        self.ring.store_u32(entry + 4, written);
    }

    /// Shows the driver used entries up to `index`.
    pub fn set_used_index(&mut self, index: u16) {
        self.finished = index;
        self.ring.store_u16(self.used + 2, index, Ordering::Release);
    }

    /// The used index.
    #[must_use]
    pub fn used_index(&self) -> u16 {
        self.finished
    }

    /// Whether the driver wants an event for what was finished since the last call.
    pub fn wants_event(&mut self) -> bool {
        let (old, new) = (self.signalled, self.finished);
        self.signalled = new;
        self.ring.full_fence();
        if !self.event_idx {
            return old != new && self.ring.load_u16(self.available, Ordering::Relaxed) & 1 == 0;
        }
        let event = self.available + 4 + 2 * usize::from(self.size);
        let event = self.ring.load_u16(event, Ordering::Relaxed);
        // The driver wants to hear of the entry with index `event`: is it among old..new?
        event.wrapping_sub(old) < new.wrapping_sub(old)
    }

    /// Asks for a notification when the driver publishes a chain. Returns whether it already has.
    pub fn enable_notifications(&mut self) -> bool {
        if self.event_idx {
            let event = self.used + 4 + 8 * usize::from(self.size);
            self.ring.store_u16(event, self.taken, Ordering::Relaxed);
        } else {
            self.ring.store_u16(self.used, 0, Ordering::Relaxed);
        }
        self.ring.full_fence();
        self.has_available()
    }

    /// Asks for no notifications. With EVENT_IDX there is nothing to do: the index asked for last
    /// lies behind.
    pub fn disable_notifications(&mut self) {
        if !self.event_idx {
            self.ring.store_u16(self.used, 1, Ordering::Relaxed);
        }
    }
}
