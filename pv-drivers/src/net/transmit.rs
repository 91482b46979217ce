//! The transmit queue: frames built in place in owned buffers.
use super::NetFault;
use super::header::{FrameMeta, HEADER_LEN};
use super::receive::{BUFFER_ALIGN, FRAME_LEN_MAX};
use crate::{Chain, Dma, DmaBuffer, Segment, VirtQueue};
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};
use paravane_abi::device::QueueSetup;

/// Bytes of a buffer for a frame that is not segmented by the device.
const SMALL: usize = 2048;
/// Bytes of a buffer for the longest frame there can be.
const LARGE: usize = (HEADER_LEN + FRAME_LEN_MAX).next_multiple_of(BUFFER_ALIGN);
/// Small and large buffers kept for reuse, at most: together some 2 MiB.
const SPARE_MAX: [usize; 2] = [64, 28];
/// Bytes of buffers in flight from which on senders have to wait. It bounds what a slow or stalled
/// device can take of the guest's memory.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Buffers that a caller may hold at a time and be sure of room for all of them.
const HELD_MAX: u16 = 2;

/// A frame to be written and sent: `len` bytes as asked for, which the caller fills through
/// [`DerefMut`]. Old content is not cleared.
pub struct TxBuffer<D: Dma> {
    buffer: DmaBuffer<D>,
    len: usize,
}

impl<D: Dma> Deref for TxBuffer<D> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[HEADER_LEN..][..self.len]
    }
}

impl<D: Dma> DerefMut for TxBuffer<D> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADER_LEN..][..self.len]
    }
}

impl<D: Dma> TxBuffer<D> {
    /// Makes the frame shorter; does nothing if it is not longer than `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl<D: Dma> fmt::Debug for TxBuffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The transmit queue.
pub(super) struct Transmitter<D: Dma> {
    queue: VirtQueue<D, ()>,
    /// Small and large buffers to use again.
    spare: [Vec<DmaBuffer<D>>; 2],
    in_flight_bytes: usize,
    /// Somebody was refused a buffer, and no event was asked for since.
    is_starved: bool,
}

impl<D: Dma> Transmitter<D> {
    pub(super) fn new(queue: VirtQueue<D, ()>) -> Self {
        Self { queue, spare: [Vec::new(), Vec::new()], in_flight_bytes: 0, is_starved: false }
    }

    pub(super) fn setup(&self) -> QueueSetup {
        self.queue.setup()
    }

    /// A buffer for a frame of `len` bytes, unless the frame could not be sent now.
    pub(super) fn buffer(&mut self, dma: &D, len: usize) -> Result<Option<TxBuffer<D>>, NetFault> {
        if len > FRAME_LEN_MAX {
            return Ok(None);
        }
        let class = usize::from(HEADER_LEN + len > SMALL);
        // In batches: only when something is lacking.
        if self.spare[class].is_empty() || !self.has_room() {
            self.reclaim()?;
        }
        if !self.has_room() {
            self.is_starved = true;
            return Ok(None);
        }
        let fresh = || DmaBuffer::new(dma, [SMALL, LARGE][class], BUFFER_ALIGN);
        let buffer = self.spare[class].pop().or_else(fresh);
        Ok(buffer.map(|buffer| TxBuffer { buffer, len }))
    }

    fn has_room(&self) -> bool {
        self.queue.free_descriptors() >= HELD_MAX.min(self.queue.size())
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Puts a frame into the queue. Returns whether there was room; if not, the frame is dropped.
    pub(super) fn add(&mut self, frame: TxBuffer<D>, meta: FrameMeta) -> bool {
        let TxBuffer { mut buffer, len } = frame;
        buffer[..HEADER_LEN].copy_from_slice(&meta.to_header());
        let size = buffer.len();
        let segment = Segment::prefix(buffer, HEADER_LEN + len);
        let added = self.queue.add(Chain::to_read(segment), ()).is_ok();
        self.in_flight_bytes += if added { size } else { 0 };
        added
    }

    /// Takes back all buffers that were sent.
    fn reclaim(&mut self) -> Result<(), NetFault> {
        while let Some(used) = self.queue.pop().map_err(NetFault::Ring)? {
            for segment in used.chain.readable.into_iter().flatten() {
                let buffer = segment.into_buffer();
                self.in_flight_bytes -= buffer.len();
                self.keep(buffer);
            }
        }
        Ok(())
    }

    fn keep(&mut self, buffer: DmaBuffer<D>) {
        let class = usize::from(buffer.len() > SMALL);
        if self.spare[class].len() < SPARE_MAX[class] {
            self.spare[class].push(buffer);
        }
    }

    pub(super) fn publish(&mut self) -> bool {
        self.queue.publish()
    }

    /// Asks for an event if somebody waits for room. Returns whether there are sent buffers already.
    pub(super) fn enable_events(&mut self) -> bool {
        core::mem::take(&mut self.is_starved) && self.queue.enable_events()
    }
}
