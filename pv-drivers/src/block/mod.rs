//! The block front-end (virtio 1.2, 5.2): many requests in flight, each with a ticket for its outcome.
//!
//! A request's buffer belongs to the driver until the outcome brings it back. Whoever loses interest
//! abandons the ticket; the buffer stays where the device expects it until the device is done.
mod request;
mod slots;

pub use request::Request;
pub use slots::Ticket;

use crate::transport::{attach, negotiate};
use crate::{AttachError, Dma, DmaBuffer, RingFault, Transport, VirtQueue};
use alloc::vec::Vec;
use core::fmt;
use core::task::{Context, Poll, Waker};
use paravane_abi::device::{BlockConfig, Device, DeviceKind, feature};
use request::Control;
use slots::{SlotIndex, Slots};

pub use paravane_abi::device::SECTOR_SIZE;

/// Most entries of the queue; a request takes two or three.
const QUEUE_SIZE: u16 = 256;
const REQUESTS: u16 = 0;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The device failed, or gave an answer that makes no sense.
    Io,
    /// The device does not know this request.
    Unsupported,
    /// The device is read-only.
    ReadOnly,
    /// The data is not a whole number of sectors, or none; or not altogether on the device.
    Range,
    /// Memory ran out.
    Memory,
    /// The device broke the rules of the ring, and is dead.
    Ring(RingFault),
    /// There is no such request: its outcome was fetched already.
    NoRequest,
}

/// A block device in use.
pub struct Block<D: Dma, T: Transport> {
    dma: D,
    transport: T,
    index: u32,
    features: u64,
    config: BlockConfig,
    queue: VirtQueue<D, SlotIndex>,
    slots: Slots<D>,
    controls: Vec<Control<D>>,
    /// Who waits for room in the queue.
    waiting: Vec<Waker>,
    fault: Option<RingFault>,
}

impl<D: Dma, T: Transport> Block<D, T> {
    /// Takes entry `index` of the device table into use.
    ///
    /// # Errors
    /// The entry is not of a block device of virtio 1.x, memory ran out, or the host refused.
    pub fn new(dma: D, transport: T, index: u32, device: &Device) -> Result<Self, AttachError> {
        if device.kind != DeviceKind::Block as u32 || device.queue_count != 1 {
            return Err(AttachError::Device);
        }
        let wanted = feature::BLK_RO | feature::BLK_FLUSH | feature::BLK_DISCARD;
        let features = negotiate(device, wanted | feature::RING_EVENT_IDX)?;
        let size = QUEUE_SIZE.min(device.queue_size_max);
        let queue = VirtQueue::new(&dma, size, features).ok_or(AttachError::Memory)?;
        // SAFETY: the ring belongs to the queue, which never gives it back.
        unsafe { attach(&transport, index, features, &[queue.setup()]) }?;
        Ok(Self {
            dma,
            transport,
            index,
            features,
            config: device.block,
            queue,
            slots: Slots::new(),
            controls: Vec::new(),
            waiting: Vec::new(),
            fault: None,
        })
    }

    /// Size of the device, sectors of [`SECTOR_SIZE`] bytes.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        self.config.capacity
    }

    /// Whether the device refuses to be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.features & feature::BLK_RO != 0
    }

    /// Whether writes may be lost before a [`Request::Flush`]. If not, there is none.
    #[must_use]
    pub fn has_flush(&self) -> bool {
        self.features & feature::BLK_FLUSH != 0
    }

    /// Most sectors of one discard; 0 if the device has none.
    #[must_use]
    pub fn discard_sectors_max(&self) -> u32 {
        if self.features & feature::BLK_DISCARD != 0 { self.config.discard_sectors_max } else { 0 }
    }

    /// A zeroed buffer for data, in memory that the device can reach.
    #[must_use]
    pub fn buffer(&self, len: usize) -> Option<DmaBuffer<D>> {
        DmaBuffer::new(&self.dma, len, 64)
    }

    /// Queues a request, or arranges for a wake-up when there is room for it, in which case `request`
    /// still has it. The next [`kick`](Self::kick) shows it to the device.
    ///
    /// # Errors
    /// The request breaks a rule, or the device is dead. Nothing is queued then.
    pub fn poll_submit(
        &mut self,
        request: &mut Option<Request<D>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Ticket, BlockError>> {
        let Some(next) = request else { return Poll::Ready(Err(BlockError::NoRequest)) };
        if let Err(error) = self.check(next) {
            return Poll::Ready(Err(error));
        }
        if self.queue.free_descriptors() < next.descriptor_count() {
            self.wait_for_room(context.waker());
            return Poll::Pending;
        }
        let submitted = request.take().ok_or(BlockError::NoRequest).and_then(|r| self.submit(r));
        Poll::Ready(submitted)
    }

    /// The outcome of a request: the buffer of a read or a write, `None` otherwise. Arranges for a
    /// wake-up while there is none; takes the ticket once there is.
    ///
    /// # Errors
    /// As an outcome: why the request failed.
    pub fn poll_outcome(
        &mut self,
        ticket: &mut Option<Ticket>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<DmaBuffer<D>>, BlockError>> {
        self.slots.poll(ticket, context)
    }

    /// Drops the interest in a request, which runs to its end nevertheless.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.slots.abandon(ticket);
    }

    /// Collects what the device has finished. Adds to `wakers` who waits for that, or for room; the
    /// caller wakes them when nothing of it is borrowed any more.
    pub fn poll(&mut self, wakers: &mut Vec<Waker>) {
        let mut has_room = false;
        let fault = loop {
            match self.queue.pop() {
                Ok(Some(used)) => {
                    let (control, outcome) = request::finish(used.chain, used.written);
                    self.controls.extend(control);
                    wakers.extend(self.slots.finish(used.token, outcome));
                    has_room = true;
                }
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        if let Some(fault) = fault.filter(|_| self.fault.is_none()) {
            self.fault = Some(fault);
            wakers.extend(self.slots.fail_all(BlockError::Ring(fault)));
        }
        if has_room || self.fault.is_some() {
            wakers.append(&mut self.waiting);
        }
    }

    /// Shows the device what was queued since the last call, and notifies it if it wants that.
    pub fn kick(&mut self) {
        if self.queue.publish() {
            self.transport.notify(self.index, REQUESTS);
        }
    }

    /// Asks for an event when the device finishes a request. Returns whether it already has: then
    /// there is work for [`poll`](Self::poll), and no event may come for it.
    #[must_use = "waiting although there is work may be waiting for ever"]
    pub fn enable_events(&mut self) -> bool {
        self.queue.in_flight() > 0 && self.queue.enable_events()
    }

    fn check(&self, request: &Request<D>) -> Result<(), BlockError> {
        if let Some(fault) = self.fault {
            return Err(BlockError::Ring(fault));
        }
        if request.modifies() && self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        match request {
            Request::Flush if !self.has_flush() => return Err(BlockError::Unsupported),
            Request::Discard { .. } if self.discard_sectors_max() == 0 => {
                return Err(BlockError::Unsupported);
            }
            Request::Discard { count, .. } if *count > self.discard_sectors_max() => {
                return Err(BlockError::Range);
            }
            Request::Read { buffer, len, .. }
                if *len > buffer.len() || !(*len as u64).is_multiple_of(SECTOR_SIZE) =>
            {
                return Err(BlockError::Range);
            }
            Request::Write { buffer, .. } if !(buffer.len() as u64).is_multiple_of(SECTOR_SIZE) => {
                return Err(BlockError::Range);
            }
            _ => {}
        }
        request.range().map_or(Ok(()), |(sector, count)| self.check_range(sector, count))
    }

    fn check_range(&self, sector: u64, count: u64) -> Result<(), BlockError> {
        let fits = sector.checked_add(count).is_some_and(|end| end <= self.capacity_sectors());
        if fits && count > 0 { Ok(()) } else { Err(BlockError::Range) }
    }

    fn submit(&mut self, request: Request<D>) -> Result<Ticket, BlockError> {
        let control = self.controls.pop().or_else(|| Control::new(&self.dma));
        let chain = control.and_then(|control| request.into_chain(&self.dma, control));
        let chain = chain.ok_or(BlockError::Memory)?;
        let (ticket, slot) = self.slots.reserve();
        if let Err(full) = self.queue.add(chain, slot) {
            // Cannot be: there was room. As an outcome it is still told to who asked.
            self.slots.finish(full.1, Err(BlockError::Io));
        }
        Ok(ticket)
    }

    fn wait_for_room(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }
}

impl<D: Dma, T: Transport> fmt::Debug for Block<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("index", &self.index)
            .field("features", &self.features)
            .field("queue", &self.queue)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
