//! The transmit queue: frames built in place in owned buffers, and frames whose payload the device
//! reads where it is.
use super::NetFault;
use super::header::{FrameMeta, HEADER_LEN};
use super::receive::{BUFFER_ALIGN, FRAME_LEN_MAX};
use crate::{Chain, Dma, DmaBuffer, Segment, VirtQueue};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::ops::{Deref, DerefMut};
use paravane_abi::device::QueueSetup;

/// Bytes of a buffer for a frame that is not segmented by the device, or for headers and the 2 KiB of
/// payload that a stack copies rather than shares.
const SMALL: usize = 2304;
/// Bytes of a buffer for the longest frame there can be.
const LARGE: usize = (HEADER_LEN + FRAME_LEN_MAX).next_multiple_of(BUFFER_ALIGN);
/// Small and large buffers kept for reuse, at most: together some 2 MiB.
const SPARE_MAX: [usize; 2] = [64, 28];
/// Bytes of buffers and shared pieces in flight from which on senders have to wait. It bounds what a
/// slow or stalled device can take of the guest's memory.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Longest frame that takes a small buffer, bytes.
pub const SMALL_FRAME_LEN_MAX: usize = SMALL - HEADER_LEN;

/// Buffers that a caller may hold at a time and be sure of room for all of them.
const HELD_MAX: u16 = 2;

/// Most pieces that a frame shares with the device. With more, the frame is copied.
const SHARED_MAX: usize = 16;

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

    /// Fills the frame with `head` and the pieces of `body`, which are as long as it.
    fn fill(&mut self, head: &[u8], body: &[Bytes]) {
        let mut rest = &mut self[..];
        for piece in core::iter::once(head).chain(body.iter().map(|piece| &piece[..])) {
            let (front, behind) = rest.split_at_mut(piece.len());
            front.copy_from_slice(piece);
            rest = behind;
        }
    }
}

impl<D: Dma> fmt::Debug for TxBuffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The transmit queue. The token of a frame is how many bytes it keeps in use.
pub(super) struct Transmitter<D: Dma> {
    queue: VirtQueue<D, usize>,
    /// Small and large buffers to use again.
    spare: [Vec<DmaBuffer<D>>; 2],
    in_flight_bytes: usize,
    /// A frame with shared pieces may be in flight.
    is_sharing: bool,
    /// Somebody was refused a buffer, and no event was asked for since.
    is_starved: bool,
}

impl<D: Dma> Transmitter<D> {
    pub(super) fn new(queue: VirtQueue<D, usize>) -> Self {
        let spare = [Vec::new(), Vec::new()];
        Self { queue, spare, in_flight_bytes: 0, is_sharing: false, is_starved: false }
    }

    pub(super) fn setup(&self) -> QueueSetup {
        self.queue.setup()
    }

    /// A buffer for a frame of `len` bytes, unless the frame could not be sent now.
    pub(super) fn buffer(&mut self, dma: &D, len: usize) -> Result<Option<TxBuffer<D>>, NetFault> {
        self.buffer_with_room(dma, len, HELD_MAX)
    }

    /// A buffer for `len` bytes if there are so many free descriptors, or all are free.
    fn buffer_with_room(
        &mut self,
        dma: &D,
        len: usize,
        descriptors: u16,
    ) -> Result<Option<TxBuffer<D>>, NetFault> {
        if len > FRAME_LEN_MAX {
            return Ok(None);
        }
        let class = usize::from(HEADER_LEN + len > SMALL);
        // In batches: only when something is lacking.
        if self.spare[class].is_empty() || !self.has_room(descriptors) {
            self.reclaim()?;
        }
        if !self.has_room(descriptors) {
            self.is_starved = true;
            return Ok(None);
        }
        let fresh = || DmaBuffer::new(dma, [SMALL, LARGE][class], BUFFER_ALIGN);
        let buffer = self.spare[class].pop().or_else(fresh);
        Ok(buffer.map(|buffer| TxBuffer { buffer, len }))
    }

    fn has_room(&self, descriptors: u16) -> bool {
        self.queue.free_descriptors() >= descriptors.min(self.queue.size())
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Puts a frame into the queue. Returns whether there was room; if not, the frame is dropped.
    pub(super) fn add(&mut self, dma: &D, frame: TxBuffer<D>, meta: FrameMeta) -> bool {
        self.add_sharing(dma, frame, &[], meta)
    }

    /// Puts a frame of `head` and `body` into the queue. Returns whether there was room; if not, nothing
    /// happened.
    ///
    /// As much of the front as a small buffer takes is copied there, as a descriptor costs more than
    /// copying that: the headers, an application's headers, or a short frame altogether. The device
    /// reads the pieces behind it where they are.
    pub(super) fn send(
        &mut self,
        dma: &D,
        head: &[u8],
        body: &[Bytes],
        meta: FrameMeta,
    ) -> Result<bool, NetFault> {
        let (mut front, mut shared) = body.split_at(front_count(head, body));
        if !self.can_share(dma, shared) {
            (front, shared) = (body, &[]);
        }
        // One for the front; and who holds buffers is sure of room for them.
        let descriptors = u16::try_from(1 + shared.len()).unwrap_or(u16::MAX) + HELD_MAX;
        let len = head.len() + total_len(front);
        let Some(mut frame) = self.buffer_with_room(dma, len, descriptors)? else {
            return Ok(false);
        };
        frame.fill(head, front);
        Ok(self.add_sharing(dma, frame, shared, meta))
    }

    fn can_share(&self, dma: &D, pieces: &[Bytes]) -> bool {
        let most = SHARED_MAX.min(usize::from(self.queue.size().saturating_sub(1 + HELD_MAX)));
        pieces.len() <= most && pieces.iter().all(|piece| piece.is_empty() || dma.reaches(piece))
    }

    fn add_sharing(
        &mut self,
        dma: &D,
        frame: TxBuffer<D>,
        shared: &[Bytes],
        meta: FrameMeta,
    ) -> bool {
        let TxBuffer { mut buffer, len } = frame;
        buffer[..HEADER_LEN].copy_from_slice(&meta.to_header());
        let size = buffer.len() + total_len(shared);
        let chain = Chain::to_read(Segment::prefix(buffer, HEADER_LEN + len));
        let added = self.queue.add_sharing(dma, chain, shared, size).is_ok();
        self.in_flight_bytes += if added { size } else { 0 };
        self.is_sharing |= added && !shared.is_empty();
        added
    }

    /// Takes back all buffers that were sent.
    fn reclaim(&mut self) -> Result<(), NetFault> {
        while let Some(used) = self.queue.pop().map_err(NetFault::Ring)? {
            self.in_flight_bytes -= used.token;
            for segment in used.chain.readable.into_iter().flatten() {
                self.keep(segment.into_buffer());
            }
        }
        self.is_sharing &= self.queue.in_flight() > 0;
        Ok(())
    }

    /// Gives up what was shared for frames that were sent: unlike buffers, which can wait until they
    /// are lacking, it may be much that somebody else is done with.
    pub(super) fn release_shared(&mut self) -> Result<(), NetFault> {
        if self.is_sharing { self.reclaim() } else { Ok(()) }
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

/// How many pieces in front of `body` fit behind `head` into a small buffer.
fn front_count(head: &[u8], body: &[Bytes]) -> usize {
    let mut len = HEADER_LEN + head.len();
    let fits = |piece: &&Bytes| {
        len += piece.len();
        len <= SMALL
    };
    body.iter().take_while(fits).count()
}

fn total_len(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}
