//! The memory that holds the data of TCP connections.
use alloc::boxed::Box;
use alloc::vec::Vec;
use smoltcp::time::{Duration, Instant};

/// Sizes of the queues of TCP connections, bytes.
///
/// Queues take memory when there is something in them, and give it back when there is not. How much
/// one may hold is a share of what is left of `total`, anew each time: a few connections get queues
/// fit for bulk transfers, thousands get the smallest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// What a connection may always have waiting to be read.
    pub rx_min: usize,
    /// Most that may wait to be read: the largest receive window.
    pub rx_max: usize,
    /// What a connection may always have on its way to the peer.
    pub tx_min: usize,
    /// Most that may be on its way to the peer.
    pub tx_max: usize,
    /// What all queues together should take; exceeded only for the sake of `rx_min` and `tx_min`.
    pub total: usize,
}

/// One connection gets this part of the memory that is left.
const SHARE: usize = 8;

/// Sizes of chunks, bytes, and how many of each are kept for the next who needs one: clearing a new
/// one costs more than all else that is done for a short message.
const CLASSES: [usize; 3] = [2 << 10, 16 << 10, 64 << 10];
const KEPT_MAX: [usize; 3] = [64, 16, 16];

/// How long chunks are kept after the last one came or went.
const KEPT_TIME: Duration = Duration::from_secs(10);

/// A piece of memory with data in its middle.
#[derive(Debug)]
pub(crate) struct Chunk {
    memory: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Chunk {
    fn new(memory: Box<[u8]>) -> Self {
        Self { memory, start: 0, end: 0 }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.memory[self.start as usize..self.end as usize]
    }

    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start as usize..self.end as usize]
    }

    /// The free space behind the data.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.end as usize..]
    }

    /// Adds `len` bytes that were written to the [`room`](Self::room).
    pub(crate) fn extend(&mut self, len: usize) {
        let room = self.memory.len() - self.end as usize;
        self.end += crate::tcp::length(len.min(room));
    }

    /// Adds bytes off the front of `bytes`, as many as there is room for. How many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.extend(len);
        len
    }

    /// Takes `len` bytes off the front.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += crate::tcp::length(len.min(self.len()));
    }
}

/// Hands out memory, and knows how much is out.
#[derive(Debug)]
pub(crate) struct BufferBudget {
    limits: BufferLimits,
    used: usize,
    /// Chunks that came back, by class.
    kept: [Vec<Box<[u8]>>; CLASSES.len()],
    /// When they are dropped; unknown since the last one came or went.
    kept_until: Option<Instant>,
}

impl BufferBudget {
    pub(crate) fn new(limits: BufferLimits) -> Self {
        Self { limits, used: 0, kept: Default::default(), kept_until: None }
    }

    /// Bytes that are out.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The largest receive window that is ever given.
    pub(crate) fn receive_max(&self) -> usize {
        self.limits.rx_max
    }

    /// Most that one connection may have waiting to be read now.
    pub(crate) fn receive_limit(&self) -> usize {
        self.share().clamp(self.limits.rx_min, self.limits.rx_max)
    }

    /// Most that one connection may have on its way now.
    pub(crate) fn send_limit(&self) -> usize {
        self.share().clamp(self.limits.tx_min, self.limits.tx_max)
    }

    /// Whether a connection that holds `held` bytes of received data may take more.
    pub(crate) fn takes_more(&self, held: usize) -> bool {
        self.used < self.limits.total || held < self.limits.rx_min
    }

    fn share(&self) -> usize {
        self.limits.total.saturating_sub(self.used) / SHARE
    }

    /// Counts bytes that a connection keeps without a chunk.
    pub(crate) fn charge(&mut self, len: usize) {
        self.used += len;
    }

    /// They are not kept any more.
    pub(crate) fn discharge(&mut self, len: usize) {
        self.used -= len;
    }

    /// An empty chunk fit for `wanted` bytes, or else one of the largest; `None` without memory.
    pub(crate) fn chunk(&mut self, wanted: usize) -> Option<Chunk> {
        let class = CLASSES.iter().position(|size| wanted <= *size).unwrap_or(CLASSES.len() - 1);
        let memory = match self.kept[class].pop() {
            Some(memory) => {
                self.kept_until = None;
                memory
            }
            None => zeroed(CLASSES[class])?,
        };
        self.used += memory.len();
        Some(Chunk::new(memory))
    }

    /// Takes a chunk back.
    pub(crate) fn release(&mut self, chunk: Chunk) {
        self.used -= chunk.capacity();
        let class = CLASSES.iter().position(|size| *size == chunk.capacity());
        if let Some(class) = class
            && self.kept[class].len() < KEPT_MAX[class]
        {
            self.kept[class].push(chunk.memory);
            self.kept_until = None;
        }
    }

    /// Drops the chunks that came back when nobody has wanted one for a while.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.has_kept() && now >= *self.kept_until.get_or_insert(now + KEPT_TIME) {
            self.kept = Default::default();
        }
    }

    /// When to call [`expire`](Self::expire).
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.has_kept().then_some(self.kept_until.unwrap_or(Instant::ZERO))
    }

    fn has_kept(&self) -> bool {
        self.kept.iter().any(|kept| !kept.is_empty())
    }
}

/// Memory of `len` bytes, if there is any.
fn zeroed(len: usize) -> Option<Box<[u8]>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(len).ok()?;
    memory.resize(len, 0);
    Some(memory.into_boxed_slice())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LIMITS: BufferLimits = BufferLimits {
        rx_min: 4 << 10,
        rx_max: 1 << 20,
        tx_min: 4 << 10,
        tx_max: 1 << 20,
        total: 16 << 20,
    };

    #[test]
    fn the_first_is_rich_the_last_is_poor() {
        let mut budget = BufferBudget::new(LIMITS);
        assert_eq!((budget.send_limit(), budget.receive_limit()), (1 << 20, 1 << 20));
        budget.charge(12 << 20);
        assert_eq!(budget.send_limit(), 512 << 10);
        budget.charge(5 << 20);
        assert_eq!((budget.send_limit(), budget.receive_limit()), (LIMITS.tx_min, LIMITS.rx_min));
        assert!(budget.takes_more(LIMITS.rx_min - 1) && !budget.takes_more(LIMITS.rx_min));
    }

    #[test]
    fn a_chunk_fits_what_is_wanted_and_is_used_again() {
        let mut budget = BufferBudget::new(LIMITS);
        for (wanted, capacity) in [(1, 2 << 10), (3000, 16 << 10), (1 << 20, 64 << 10)] {
            let mut chunk = budget.chunk(wanted).unwrap();
            assert_eq!((chunk.capacity(), budget.used()), (capacity, capacity));
            assert_eq!(chunk.push(b"abc"), 3);
            chunk.consume(1);
            assert_eq!(chunk.data(), b"bc");
            budget.release(chunk);
            assert_eq!(budget.used(), 0);
            let chunk = budget.chunk(wanted).unwrap();
            assert!(!budget.has_kept(), "the chunk was not used again");
            assert_eq!(chunk.len(), 0);
            budget.release(chunk);
            budget.kept = Default::default();
        }
    }

    #[test]
    fn chunks_are_kept_in_bounds_and_for_a_while() {
        let mut budget = BufferBudget::new(LIMITS);
        let at = Instant::from_secs;
        let chunks: Vec<_> = (0..1000).map(|_| budget.chunk(1).unwrap()).collect();
        assert_eq!(budget.next_deadline(), None);
        chunks.into_iter().for_each(|chunk| budget.release(chunk));
        assert_eq!((budget.kept[0].len(), budget.used()), (KEPT_MAX[0], 0));
        assert_eq!(budget.next_deadline(), Some(Instant::ZERO));
        budget.expire(at(1));
        assert_eq!(budget.next_deadline(), Some(at(11)));
        let chunk = budget.chunk(1).unwrap();
        budget.release(chunk);
        budget.expire(at(11));
        assert_eq!(budget.next_deadline(), Some(at(21)));
        budget.expire(at(21));
        assert_eq!(budget.next_deadline(), None);
    }
}
