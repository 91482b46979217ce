//! One virtqueue, seen from the device: strict about every rule of virtio 1.2, section 2.7, because
//! the guest on the other side may be hostile.
//!
//! The positions in the rings and the suppression of notifications are those of `virtio-queue`. The
//! walk along a chain is our own: the library's ends silently where a chain is malformed, and here
//! that must end the domain with a reason.
use super::GuestFault;
use super::slices::GuestSlice;
use crate::memory::GuestRam;
use paravane_abi::device::{Attach, QueueSetup, feature};
use std::sync::atomic::Ordering;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (virtio 1.2, 2.7.6): the driver wants no notification.
const AVAILABLE_NO_INTERRUPT: u16 = 1;

/// The buffers of one descriptor chain: those that the device reads, then those that it writes.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) head: u16,
    pub(super) readable: Vec<GuestSlice>,
    pub(super) writable: Vec<GuestSlice>,
}

impl Chain {
    fn clear(&mut self) {
        self.readable.clear();
        self.writable.clear();
    }
}

/// A virtqueue in use.
#[derive(Debug)]
pub(super) struct Virtqueue {
    queue: Queue,
    device: usize,
    index: u16,
    /// Chains were returned since the driver's wish to be told was looked at.
    returned: bool,
}

impl Virtqueue {
    /// Takes queue `index` of `attach` into use.
    pub(super) fn new(ram: &GuestRam, attach: &Attach, index: u16) -> Result<Self, GuestFault> {
        let device = usize::try_from(attach.device).unwrap_or(usize::MAX);
        let fault = |what: String| GuestFault { device, queue: index, what };
        let setup = attach
            .queues
            .get(usize::from(index))
            .ok_or_else(|| fault("there is no such queue".into()))?;
        let mut queue =
            configure(setup).map_err(|error| fault(format!("its rings are unusable: {error}")))?;
        queue.set_event_idx(attach.features & feature::RING_EVENT_IDX != 0);
        queue.set_ready(true);
        if !queue.is_valid(ram.memory()) || setup.available == 0 {
            return Err(fault("its rings do not lie in RAM, or at its very start".into()));
        }
        Ok(Self { queue, device, index, returned: false })
    }

    /// Entries of the queue.
    pub(super) fn size(&self) -> u16 {
        self.queue.size()
    }

    /// A fault of this queue.
    pub(super) fn fault(&self, what: impl Into<String>) -> GuestFault {
        GuestFault { device: self.device, queue: self.index, what: what.into() }
    }

    /// Takes the next available chain into `chain`, whose vectors are reused. False if there is none.
    pub(super) fn pop(&mut self, ram: &GuestRam, chain: &mut Chain) -> Result<bool, GuestFault> {
        chain.clear();
        let head = match self.queue.iter(ram.memory()) {
            Ok(mut available) => available.next().map(|found| found.head_index()),
            Err(error) => return Err(self.library_fault(&error)),
        };
        let Some(head) = head else { return Ok(false) };
        chain.head = head;
        self.walk(ram, chain)?;
        Ok(true)
    }

    /// Makes the chain that was popped last available again.
    pub(super) fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver, with `len` bytes written to it.
    pub(super) fn add_used(
        &mut self,
        ram: &GuestRam,
        head: u16,
        len: u32,
    ) -> Result<(), GuestFault> {
        self.returned = true;
        self.queue.add_used(ram.memory(), head, len).map_err(|error| self.library_fault(&error))
    }

    /// Asks the driver for a notification of the next available chain. True if one came meanwhile.
    pub(super) fn request_notification(&mut self, ram: &GuestRam) -> Result<bool, GuestFault> {
        self.queue.enable_notification(ram.memory()).map_err(|error| self.library_fault(&error))
    }

    /// True if the driver asked to hear of the chains returned since the last call.
    pub(super) fn needs_notification(&mut self, ram: &GuestRam) -> Result<bool, GuestFault> {
        if !std::mem::take(&mut self.returned) {
            return Ok(false);
        }
        if self.queue.event_idx_enabled() {
            return self
                .queue
                .needs_notification(ram.memory())
                .map_err(|error| self.library_fault(&error));
        }
        let flags: u16 = self.load(ram, self.queue.avail_ring())?;
        Ok(u16::from_le(flags) & AVAILABLE_NO_INTERRUPT == 0)
    }

    /// Copies the descriptors of the chain out of the guest's memory once, checking each.
    fn walk(&self, ram: &GuestRam, chain: &mut Chain) -> Result<(), GuestFault> {
        let mut index = chain.head;
        let mut bytes: u32 = 0;
        for _ in 0..self.size() {
            let descriptor = self.descriptor(ram, index)?;
            bytes = bytes
                .checked_add(descriptor.len())
                .ok_or_else(|| self.fault("a chain is longer than 4 GiB"))?;
            self.take(ram, &descriptor, chain)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(self.fault(format!("the chain from descriptor {} loops", chain.head)))
    }

    fn descriptor(&self, ram: &GuestRam, index: u16) -> Result<Descriptor, GuestFault> {
        if index >= self.size() {
            return Err(
                self.fault(format!("descriptor {index} is named, in a table of {}", self.size()))
            );
        }
        let address = self.queue.desc_table() + u64::from(index) * 16;
        ram.memory()
            .read_obj(GuestAddress(address))
            .map_err(|_| self.fault(format!("descriptor {index} is not in RAM")))
    }

    fn take(
        &self,
        ram: &GuestRam,
        descriptor: &Descriptor,
        chain: &mut Chain,
    ) -> Result<(), GuestFault> {
        if descriptor.refers_to_indirect_table() {
            return Err(self.fault("an indirect descriptor is used, which was not offered"));
        }
        let (address, len) = (descriptor.addr(), descriptor.len());
        let slice = usize::try_from(len)
            .ok()
            .and_then(|len| ram.memory().get_slice(address, len).ok())
            .ok_or_else(|| {
                self.fault(format!("a buffer of {len} bytes at {:#x} is not in RAM", address.0))
            })?;
        if descriptor.is_write_only() {
            chain.writable.push(GuestSlice::new(&slice));
        } else if chain.writable.is_empty() {
            chain.readable.push(GuestSlice::new(&slice));
        } else {
            return Err(self.fault("a readable descriptor follows a writable one"));
        }
        Ok(())
    }

    fn load(&self, ram: &GuestRam, address: u64) -> Result<u16, GuestFault> {
        ram.memory()
            .load(GuestAddress(address), Ordering::Acquire)
            .map_err(|_| self.fault("a ring is not in RAM"))
    }

    fn library_fault(&self, error: &virtio_queue::Error) -> GuestFault {
        self.fault(error.to_string())
    }
}

fn configure(setup: &QueueSetup) -> Result<Queue, virtio_queue::Error> {
    let mut queue = Queue::new(setup.size)?;
    queue.try_set_desc_table_address(GuestAddress(setup.descriptors))?;
    queue.try_set_avail_ring_address(GuestAddress(setup.available))?;
    queue.try_set_used_ring_address(GuestAddress(setup.used))?;
    Ok(queue)
}
