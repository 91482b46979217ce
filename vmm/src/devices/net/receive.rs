//! The receive queue: frames go straight from the kernel into the guest's buffers.
use super::super::GuestFault;
use super::super::queue::{Chain, Virtqueue};
use super::super::slices::{GuestSlice, SLICES_MAX, append, skip_bytes, total_len, write_at};
use super::frames::FrameLink;
use super::header::{ETHERNET_LEN, HEADER_LEN, NUM_BUFFERS_OFFSET};
use crate::memory::GuestRam;
use paravane_abi::device::feature;
use std::io;

/// Most frames of one poll, so that the guest soon gets to work on them.
const FRAMES_PER_POLL: usize = 128;

/// Longest frame without segmentation offload, header included, bytes (virtio 1.2, 5.1.6.3.1).
const PLAIN_LEN_MAX: usize = HEADER_LEN + ETHERNET_LEN + 1500;
/// Longest frame with it.
const SEGMENT_LEN_MAX: usize = HEADER_LEN + ETHERNET_LEN + 0x1_0000;

/// A chain of the receive queue that waits for a frame.
#[derive(Debug, Clone, Copy)]
struct Buffer {
    head: u16,
    len: usize,
}

/// The receive side of the device.
///
/// Buffers are gathered from the ring until they hold the longest frame, and stay gathered from one
/// frame to the next: per frame, only those that it filled are replaced.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) queue: Virtqueue,
    is_mergeable: bool,
    frame_len_max: usize,
    chain: Chain,
    buffers: Vec<Buffer>,
    /// The memory of `buffers`, neighbours as one.
    slices: Vec<GuestSlice>,
    /// Bytes in `slices`.
    capacity: usize,
    /// Most bytes ever gathered.
    capacity_max: usize,
    overflow: Box<[u8; 1]>,
    /// Reading waits for buffers of the guest.
    pub(super) is_starved: bool,
    /// The frame link has reached its end or failed.
    pub(super) is_closed: bool,
}

impl Receiver {
    pub(super) fn new(queue: Virtqueue, features: u64) -> Self {
        let segments = features & (feature::NET_GUEST_TSO4 | feature::NET_GUEST_TSO6) != 0;
        Self {
            queue,
            is_mergeable: features & feature::NET_MRG_RXBUF != 0,
            frame_len_max: if segments { SEGMENT_LEN_MAX } else { PLAIN_LEN_MAX },
            chain: Chain::default(),
            buffers: Vec::new(),
            slices: Vec::new(),
            capacity: 0,
            capacity_max: 0,
            overflow: Box::new([0]),
            is_starved: false,
            is_closed: false,
        }
    }

    /// Reads frames while there are frames, buffers for them, and patience.
    pub(super) fn run(&mut self, ram: &GuestRam, frames: &mut FrameLink) -> Result<(), GuestFault> {
        if self.is_closed {
            return Ok(());
        }
        for _ in 0..FRAMES_PER_POLL {
            self.gather(ram)?;
            self.is_starved = !self.has_room();
            if self.is_starved {
                return Ok(());
            }
            let Some(len) = self.read(frames)? else { return Ok(()) };
            if (HEADER_LEN + ETHERNET_LEN..=self.capacity).contains(&len) {
                self.deliver(ram, len)?;
            }
        }
        Ok(())
    }

    /// A frame is read only when the buffers hold the longest frame, or as much as the guest has ever
    /// offered at once: then it is better to lose a long frame than to wait for ever.
    fn has_room(&self) -> bool {
        let wanted = self.capacity_max.min(self.frame_len_max);
        !self.buffers.is_empty() && (!self.is_mergeable || self.capacity >= wanted)
    }

    fn gather(&mut self, ram: &GuestRam) -> Result<(), GuestFault> {
        while self.wants_more() && self.queue.pop(ram, &mut self.chain)? {
            let len = total_len(&self.chain.writable);
            if !self.chain.readable.is_empty() {
                return Err(self.queue.fault("a receive buffer is not writable"));
            }
            if len < HEADER_LEN {
                return Err(self.queue.fault(format!("a receive buffer has {len} bytes")));
            }
            self.chain.writable.iter().for_each(|slice| append(&mut self.slices, *slice));
            self.buffers.push(Buffer { head: self.chain.head, len });
            self.capacity += len;
        }
        self.capacity_max = self.capacity_max.max(self.capacity);
        Ok(())
    }

    fn wants_more(&self) -> bool {
        // One chain more than needed is at most `QUEUE_SIZE` slices more, and one for the overflow.
        let has_slots = self.slices.len() + usize::from(self.queue.size()) < SLICES_MAX;
        let wanted = if self.is_mergeable { self.frame_len_max } else { 1 };
        self.capacity < wanted && has_slots
    }

    /// Reads one frame into the gathered buffers. None if there is none now.
    fn read(&mut self, frames: &mut FrameLink) -> Result<Option<usize>, GuestFault> {
        self.slices.push(GuestSlice::of_host(self.overflow.as_mut_slice()));
        let result = frames.read(&self.slices);
        self.slices.pop();
        match result {
            Ok(0) => self.is_closed = true,
            Ok(len) => return Ok(Some(len)),
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                return Err(self.queue.fault("a receive buffer is not in writable memory"));
            }
            Err(error) => {
                let passes =
                    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                self.is_closed = !passes;
            }
        }
        Ok(None)
    }

    /// Returns the buffers that the `len` bytes just read fill.
    fn deliver(&mut self, ram: &GuestRam, len: usize) -> Result<(), GuestFault> {
        let (mut room, mut used) = (0, 0);
        while room < len {
            room += self.buffers[used].len;
            used += 1;
        }
        let count = u16::try_from(used).unwrap_or(u16::MAX).to_le_bytes();
        write_at(&self.slices, NUM_BUFFERS_OFFSET, &count);
        let mut rest = len;
        for buffer in self.buffers.drain(..used) {
            let written = rest.min(buffer.len);
            // A buffer is at most 4 GiB - 1, see `Virtqueue::pop`.
            let written_u32 = u32::try_from(written).unwrap_or(u32::MAX);
            self.queue.add_used(ram, buffer.head, written_u32)?;
            rest -= written;
        }
        self.capacity -= room;
        skip_bytes(&mut self.slices, room);
        Ok(())
    }
}
