//! The receive queue: a stock of posted buffers, and frames put together from them.
use super::NetFault;
use super::header::{FrameMeta, HEADER_LEN, Header};
use crate::dma::Row;
use crate::{Chain, Dma, DmaBuffer, Segment, VirtQueue};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use paravane_abi::device::QueueSetup;

/// Cache-line alignment of frame buffers.
pub(super) const BUFFER_ALIGN: usize = 64;

/// Buffers that are posted at first. The longest frame takes 33 of 2 KiB.
const STOCK_MIN: u16 = 64;

/// Bytes of a buffer when large frames come: each buffer of a frame takes time on both sides.
const LARGE_BUFFER_SIZE: usize = 8192;
/// A frame that takes more buffers than this is large.
const LARGE_FRAME_BUFFERS: usize = 4;
/// Large frames after which buffers become large.
const LARGE_FRAMES: u32 = 32;
/// Most bytes of all buffers.
const STOCK_BYTES_MAX: usize = 1 << 20;

/// Longest frame with its Ethernet header: an IPv4 packet has at most 65535 bytes.
pub(super) const FRAME_LEN_MAX: usize = 14 + 65_535;

/// A buffer and how many bytes of it the device wrote.
struct Part<D: Dma> {
    buffer: DmaBuffer<D>,
    len: usize,
}

impl<D: Dma> Part<D> {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// A received frame: it owns the buffers that the device wrote it into. Give it back with
/// [`Net::recycle`](super::Net::recycle); dropping it frees the buffers instead of reusing them.
pub struct RxFrame<D: Dma> {
    header: Header,
    first: Part<D>,
    /// Further buffers of a frame that does not fit into one (`MRG_RXBUF`).
    rest: Vec<Part<D>>,
    /// Bytes in all of them.
    len: usize,
}

impl<D: Dma> RxFrame<D> {
    fn parse(first: Part<D>) -> Result<Self, NetFault> {
        let header = Header::parse(first.bytes())?;
        let len = first.len - HEADER_LEN;
        Ok(Self { header, first, rest: Vec::new(), len })
    }

    /// What the device says of the frame.
    #[must_use]
    pub fn meta(&self) -> FrameMeta {
        self.header.meta
    }

    /// The first piece of the frame: all of it, unless the frame is larger than a buffer. Begins with
    /// the Ethernet header.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        &self.first.bytes()[HEADER_LEN..]
    }

    /// The pieces of the frame.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.first()).chain(self.rest.iter().map(Part::bytes))
    }

    /// Bytes of the frame.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame in one piece: as it is if it came in one, or in pieces that lie one behind the other;
    /// else copied to `scratch`.
    pub fn contiguous<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if self.rest.is_empty() {
            return self.first();
        }
        if let Some(bytes) = self.span() {
            return &bytes[HEADER_LEN..];
        }
        scratch.clear();
        self.pieces().for_each(|piece| scratch.extend_from_slice(piece));
        scratch
    }

    /// Header and frame, if all buffers but the last are full and lie one behind the other.
    fn span(&self) -> Option<&[u8]> {
        let parts = core::iter::once(&self.first).chain(&self.rest);
        let mut full = parts.take(self.rest.len());
        if !full.all(|part| part.len == part.buffer.len()) {
            return None;
        }
        let rest = self.rest.iter().map(|part| &part.buffer);
        DmaBuffer::span(&self.first.buffer, rest, HEADER_LEN + self.len)
    }

    fn is_complete(&self) -> bool {
        self.rest.len() + 1 >= usize::from(self.header.buffer_count)
    }

    fn push(&mut self, part: Part<D>) -> Result<(), NetFault> {
        self.len += part.len;
        self.rest.push(part);
        if self.len() > FRAME_LEN_MAX { Err(NetFault::Long) } else { Ok(()) }
    }
}

impl<D: Dma> fmt::Debug for RxFrame<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxFrame").field("meta", &self.meta()).field("len", &self.len()).finish()
    }
}

/// The receive queue.
pub(super) struct Receiver<D: Dma> {
    queue: VirtQueue<D, ()>,
    buffer_size: usize,
    /// Whether frames may span buffers (`MRG_RXBUF`).
    mergeable: bool,
    /// How many buffers are to be posted. A guest that receives little has no memory in it.
    stock: u16,
    /// How many were, after the last refill.
    posted: u16,
    /// Large frames so far, counted while buffers are small.
    large_frames: u32,
    /// Buffers to post, in the order in which they came back: a device uses them in the order in which
    /// they were posted, so neighbours stay neighbours, and a frame that takes several needs no copy to
    /// be in one piece.
    spare: VecDeque<DmaBuffer<D>>,
    /// What the buffers are parts of, and their number and size; `None` while memory is short.
    row: Option<(Arc<Row<D>>, u16, usize)>,
    /// A frame of which not all buffers are there yet.
    partial: Option<RxFrame<D>>,
}

impl<D: Dma> Receiver<D> {
    pub(super) fn new(queue: VirtQueue<D, ()>, buffer_size: usize, mergeable: bool) -> Self {
        let stock = STOCK_MIN.min(queue.size());
        Self {
            queue,
            buffer_size,
            mergeable,
            stock,
            posted: 0,
            large_frames: 0,
            spare: VecDeque::new(),
            row: None,
            partial: None,
        }
    }

    pub(super) fn setup(&self) -> QueueSetup {
        self.queue.setup()
    }

    /// The next frame, if it is there altogether.
    pub(super) fn receive(&mut self) -> Result<Option<RxFrame<D>>, NetFault> {
        while let Some(used) = self.queue.pop().map_err(NetFault::Ring)? {
            self.grow();
            let [Some(segment), _] = used.chain.writable else { continue };
            // At most the length of the segment, as the queue checked.
            let part = Part { buffer: segment.into_buffer(), len: used.written as usize };
            let frame = self.assemble(part)?;
            if frame.is_complete() {
                self.note(&frame);
                return Ok(Some(frame));
            }
            self.partial = Some(frame);
        }
        Ok(None)
    }

    fn assemble(&mut self, part: Part<D>) -> Result<RxFrame<D>, NetFault> {
        let Some(mut frame) = self.partial.take() else {
            let mut frame = RxFrame::parse(part)?;
            if !self.mergeable {
                // The field has no meaning then; devices are to set it to 1, and some do not.
                frame.header.buffer_count = 1;
            }
            return Ok(frame);
        };
        frame.push(part)?;
        Ok(frame)
    }

    pub(super) fn recycle(&mut self, frame: RxFrame<D>) {
        self.keep(frame.first.buffer);
        frame.rest.into_iter().for_each(|part| self.keep(part.buffer));
    }

    /// Keeps a buffer to post it again, unless it is left from a row that was replaced.
    fn keep(&mut self, buffer: DmaBuffer<D>) {
        if self.row.as_ref().is_none_or(|(row, ..)| buffer.is_part_of(row)) {
            self.spare.push_back(buffer);
        }
    }

    /// Makes buffers large when large frames come again and again.
    fn note(&mut self, frame: &RxFrame<D>) {
        if frame.rest.len() < LARGE_FRAME_BUFFERS || self.buffer_size >= LARGE_BUFFER_SIZE {
            return;
        }
        self.large_frames += 1;
        if self.large_frames >= LARGE_FRAMES {
            self.buffer_size = LARGE_BUFFER_SIZE;
            self.stock = self.stock.min(self.stock_max());
        }
    }

    /// Doubles the stock when the device has used more than half of it since the last refill.
    fn grow(&mut self) {
        if self.queue.in_flight() < self.posted / 2 {
            self.stock = self.posted.saturating_mul(2).min(self.stock_max());
        }
    }

    fn stock_max(&self) -> u16 {
        let count = (STOCK_BYTES_MAX / self.buffer_size).max(usize::from(STOCK_MIN));
        u16::try_from(count).unwrap_or(u16::MAX).min(self.queue.size())
    }

    /// Posts buffers up to the stock. Returns whether the device is to be notified.
    ///
    /// With no memory for another buffer, the device has to do with fewer.
    pub(super) fn refill(&mut self, dma: &D) -> bool {
        self.renew_row(dma);
        let missing = self.stock.saturating_sub(self.queue.in_flight());
        for _ in 0..missing.min(self.queue.free_descriptors()) {
            let spare = self.spare.pop_front();
            let fresh = || DmaBuffer::new(dma, self.buffer_size, BUFFER_ALIGN);
            let Some(buffer) = spare.or_else(fresh) else { break };
            // A dead queue has no free descriptors, so the chain fits.
            let _ = self.queue.add(Chain::to_write(Segment::whole(buffer)), ());
        }
        self.posted = self.queue.in_flight();
        self.queue.publish()
    }

    /// Replaces the row of buffers by one as long as the stock, if it is shorter or of smaller buffers.
    fn renew_row(&mut self, dma: &D) {
        let (stock, size) = (self.stock, self.buffer_size);
        if self.row.as_ref().is_some_and(|(_, count, of)| *count >= stock && *of >= size) {
            return;
        }
        if let Some((row, buffers)) = DmaBuffer::new_row(dma, stock.into(), size, BUFFER_ALIGN) {
            self.spare = buffers.collect();
            self.row = Some((row, stock, size));
        }
    }

    pub(super) fn enable_events(&mut self) -> bool {
        self.queue.enable_events()
    }

    pub(super) fn has_used(&self) -> bool {
        self.queue.has_used()
    }
}
