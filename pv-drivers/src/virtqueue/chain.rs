//! Chains of buffers, as they go into a virtqueue and come out again.
use crate::{Dma, DmaBuffer};

/// A buffer and how much of it the device is given.
#[derive(Debug)]
pub struct Segment<D: Dma> {
    buffer: DmaBuffer<D>,
    len: u32,
}

impl<D: Dma> Segment<D> {
    /// The whole buffer.
    #[must_use]
    pub fn whole(buffer: DmaBuffer<D>) -> Self {
        let len = buffer.len();
        Self::prefix(buffer, len)
    }

    /// The first `len` bytes of the buffer, or all of it if it is shorter.
    #[must_use]
    pub fn prefix(buffer: DmaBuffer<D>, len: usize) -> Self {
        let len = u32::try_from(len.min(buffer.len())).unwrap_or(u32::MAX);
        Self { buffer, len }
    }

    /// Bytes that the device is given.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the device is given nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buffer, to keep.
    #[must_use]
    pub fn into_buffer(self) -> DmaBuffer<D> {
        self.buffer
    }

    pub(super) fn device_address(&self) -> u64 {
        self.buffer.device_address()
    }
}

/// What one request consists of: first the segments that the device reads, then those that it writes
/// (virtio 1.2, 2.7.4.2). Two of each are as much as any device here needs of buffers of its own; bytes
/// that others may read, too, are [shared](super::VirtQueue::add_sharing).
#[derive(Debug)]
pub struct Chain<D: Dma> {
    /// Read by the device.
    pub readable: [Option<Segment<D>>; 2],
    /// Written by the device.
    pub writable: [Option<Segment<D>>; 2],
}

impl<D: Dma> Chain<D> {
    /// One segment for the device to read.
    #[must_use]
    pub fn to_read(segment: Segment<D>) -> Self {
        Self { readable: [Some(segment), None], writable: [None, None] }
    }

    /// One segment for the device to write.
    #[must_use]
    pub fn to_write(segment: Segment<D>) -> Self {
        Self { readable: [None, None], writable: [Some(segment), None] }
    }

    /// Number of descriptors that the chain takes.
    pub(super) fn descriptor_count(&self) -> usize {
        self.readable.iter().chain(&self.writable).flatten().count()
    }

    /// Most bytes that the device can have written.
    pub(crate) fn writable_len(&self) -> u64 {
        self.writable.iter().flatten().map(|s| u64::from(s.len())).sum()
    }
}
