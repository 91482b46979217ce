//! One direction: a ring of messages with one producer and one consumer.
//!
//! Two counters run freely, of the bytes ever written and ever read; each side keeps its own one to
//! itself as well, and never reads back what it has published. A message is a record of its length and
//! its bytes, and never wraps around: where too little is left before the end, a length that no message
//! has sends the reader back to the start.
use super::MESSAGE_LEN_MAX;
use super::memory::SharedMemory;
use std::io;
use std::sync::atomic::Ordering;
use vm_memory::VolatileSlice;

/// Bytes of records in a ring. Any message fits when the ring is empty, wherever it starts: it takes
/// less than half of it. More would only move the working set out of the caches.
const CAPACITY: u32 = 256 << 10;
const _: () = assert!(CAPACITY.is_power_of_two() && MESSAGE_LEN_MAX + 8 < CAPACITY as usize / 2);

/// Bytes of the length before a message; records are aligned to it.
const LENGTH_LEN: u32 = 4;

/// In place of a length: the next record is at the start.
const BACK_TO_START: u32 = u32::MAX;

/// Where the counters and the records are in the memory of a ring, bytes. Each counter has a cache line
/// to itself, since another processor writes it.
const WRITTEN: usize = 0;
const READ: usize = 64;
const RECORDS: usize = 128;

/// Bytes of shared memory that a ring takes.
pub(super) const MEMORY_LEN: usize = RECORDS + CAPACITY as usize;

/// The ring as both sides see it.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    pub(super) memory: SharedMemory,
    pub(super) start: usize,
}

impl Ring {
    fn written(&self) -> u32 {
        // Acquire: the records behind the counter are there.
        self.memory.word(self.start + WRITTEN).load(Ordering::Acquire)
    }

    fn set_written(&self, written: u32) {
        // Release: as above.
        self.memory.word(self.start + WRITTEN).store(written, Ordering::Release);
    }

    fn read(&self) -> u32 {
        // Acquire: the reader has done with the records before the counter.
        self.memory.word(self.start + READ).load(Ordering::Acquire)
    }

    fn set_read(&self, read: u32) {
        // Release: as above.
        self.memory.word(self.start + READ).store(read, Ordering::Release);
    }

    fn length(&self, at: u32) -> u32 {
        self.memory.word(self.start + RECORDS + at as usize).load(Ordering::Relaxed)
    }

    fn set_length(&self, at: u32, length: u32) {
        let word = self.memory.word(self.start + RECORDS + at as usize);
        word.store(length, Ordering::Relaxed);
    }

    fn message(&self, at: u32, len: u32) -> VolatileSlice<'_> {
        self.memory.bytes(self.start + RECORDS + (at + LENGTH_LEN) as usize, len as usize)
    }
}

/// Bytes of the record of a message, if there can be such a message.
fn record_len(message_len: u32) -> Option<u32> {
    let is_possible = message_len as usize <= MESSAGE_LEN_MAX;
    is_possible.then(|| LENGTH_LEN + message_len.next_multiple_of(LENGTH_LEN))
}

/// Bytes from the place of counter `count` to the end of the ring.
fn until_end(count: u32) -> u32 {
    CAPACITY - count % CAPACITY
}

/// The side that sends.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
    written: u32,
}

impl Producer {
    pub(super) fn new(ring: Ring) -> Self {
        Self { ring, written: 0 }
    }

    /// Whether a message of `len` bytes finds room.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        self.skip(len).is_some()
    }

    /// Whether at least half of the ring is free, and so any message finds room.
    pub(super) fn has_much_room(&self) -> bool {
        self.written.wrapping_sub(self.ring.read()) <= CAPACITY / 2
    }

    /// Whether the other side has something to read.
    pub(super) fn has_unread(&self) -> bool {
        self.written != self.ring.read()
    }

    /// Bytes to leave out before a message of `len` bytes; `None` if there is no room for it. A reader
    /// that claims to have read what was never written makes no room.
    fn skip(&self, len: usize) -> Option<u32> {
        let record = record_len(u32::try_from(len).ok()?)?;
        let free = CAPACITY.checked_sub(self.written.wrapping_sub(self.ring.read()))?;
        let end = until_end(self.written);
        let skip = if record <= end { 0 } else { end };
        (skip + record <= free).then_some(skip)
    }

    /// Sends a message. False if there is no room.
    pub fn send(&mut self, message: &[u8]) -> bool {
        self.push(message.len(), |room| {
            room.copy_from(message);
        })
    }

    /// Sends a message of `len` bytes, which `fill` writes. False, without calling it, if there is no
    /// room.
    pub fn push(&mut self, len: usize, fill: impl FnOnce(&VolatileSlice<'_>)) -> bool {
        let Some(skip) = self.skip(len) else { return false };
        let Some((len, record)) = u32::try_from(len).ok().and_then(|n| Some((n, record_len(n)?)))
        else {
            return false;
        };
        if skip > 0 {
            self.ring.set_length(self.written % CAPACITY, BACK_TO_START);
        }
        let start = self.written.wrapping_add(skip);
        let at = start % CAPACITY;
        self.ring.set_length(at, len);
        fill(&self.ring.message(at, len));
        self.written = start.wrapping_add(record);
        self.ring.set_written(self.written);
        true
    }
}

/// The side that receives.
#[derive(Debug)]
pub struct Consumer {
    ring: Ring,
    read: u32,
}

impl Consumer {
    pub(super) fn new(ring: Ring) -> Self {
        Self { ring, read: 0 }
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.written() == self.read
    }

    /// Whether at most half of the ring is in use.
    pub(super) fn has_made_room(&self) -> bool {
        self.ring.written().wrapping_sub(self.read) <= CAPACITY / 2
    }

    /// Copies the next message, if there is one, into `buffer`; what does not fit is lost. How many
    /// bytes it has.
    ///
    /// # Errors
    /// As for [`pop`](Self::pop).
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.pop(|message| message.copy_to(buffer))
    }

    /// Hands the next message, if there is one, to `take`.
    ///
    /// # Errors
    /// The other side has broken the ring; it stays as it is.
    pub fn pop<R>(&mut self, take: impl FnOnce(&VolatileSlice<'_>) -> R) -> io::Result<Option<R>> {
        let filled = self.ring.written().wrapping_sub(self.read);
        if filled == 0 {
            return Ok(None);
        }
        let (start, len, record) = self.next_record(filled).ok_or_else(broken)?;
        let result = take(&self.ring.message(start % CAPACITY, len));
        self.read = start.wrapping_add(record);
        self.ring.set_read(self.read);
        Ok(Some(result))
    }

    /// Where the next record starts, and the lengths of its message and of itself.
    fn next_record(&self, filled: u32) -> Option<(u32, u32, u32)> {
        let mut rest = (filled <= CAPACITY).then_some(filled)?;
        let mut start = self.read;
        let mut len = self.ring.length(start % CAPACITY);
        if len == BACK_TO_START {
            let skip = until_end(start);
            rest = rest.checked_sub(skip)?;
            start = start.wrapping_add(skip);
            len = self.ring.length(start % CAPACITY);
        }
        let record = record_len(len).filter(|&record| record <= rest.min(until_end(start)))?;
        Some((start, len, record))
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other end has broken the wire")
}
