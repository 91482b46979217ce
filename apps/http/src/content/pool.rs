//! Buffers for streaming: a bounded number of large ones, used again and again.
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stream gets when all large buffers are in use, bytes. Clients that are slow to take their
/// data may hold all large buffers; the others still advance.
const SMALL_LEN: usize = 4 << 10;

/// The pool. Large buffers are made when first needed and then kept.
#[derive(Debug)]
pub(super) struct Pool {
    shelf: Arc<Shelf>,
}

/// The large buffers not in use. [`Bytes`] wants its owner to be `Send`, hence the lock, which nobody
/// ever waits for: the appliance has one thread.
#[derive(Debug)]
struct Shelf {
    buffer_len: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    idle: Vec<Vec<u8>>,
    unmade: usize,
}

impl Pool {
    /// A pool of at most `count` buffers of `buffer_len` bytes.
    pub(super) fn new(buffer_len: usize, count: usize) -> Self {
        let state = Mutex::new(State { idle: Vec::new(), unmade: count });
        Self { shelf: Arc::new(Shelf { buffer_len, state }) }
    }

    /// A buffer of `len` bytes, or a small one if `len` is large and no large buffer is free, and the
    /// claim to hand it back with. `len` is at most the pool's `buffer_len`.
    pub(super) fn take(&self, len: usize) -> (Vec<u8>, Claim) {
        let large = if len > SMALL_LEN { self.shelf.take() } else { None };
        match large {
            Some(mut buffer) => {
                buffer.truncate(len);
                (buffer, Claim(Some(Arc::clone(&self.shelf))))
            }
            None => (vec![0; len.min(SMALL_LEN)], Claim(None)),
        }
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if let Some(buffer) = state.idle.pop() {
            return Some(buffer);
        }
        state.unmade = state.unmade.checked_sub(1)?;
        Some(vec![0; self.buffer_len])
    }
}

/// The right to a place on the shelf. Dropped without [`Claim::adopt`] (the read failed or was given
/// up), it lets the pool make a new buffer.
#[derive(Debug)]
pub(super) struct Claim(Option<Arc<Shelf>>);

impl Claim {
    /// Makes the buffer of this claim into bytes that bring it back when the last of them is dropped.
    pub(super) fn adopt(mut self, buffer: Vec<u8>) -> Bytes {
        match self.0.take() {
            Some(shelf) => Bytes::from_owner(Borrowed { buffer, shelf }),
            None => Bytes::from(buffer),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(shelf) = &self.0 {
            shelf.lock().unmade += 1;
        }
    }
}

#[derive(Debug)]
struct Borrowed {
    buffer: Vec<u8>,
    shelf: Arc<Shelf>,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(self.shelf.buffer_len, 0);
        self.shelf.lock().idle.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 64 << 10;

    #[test]
    fn large_buffers_are_bounded_and_come_back() {
        let pool = Pool::new(LARGE, 1);
        let (first, claim) = pool.take(LARGE);
        assert_eq!(first.len(), LARGE);
        assert_eq!(pool.take(LARGE).0.len(), SMALL_LEN, "the only large one is out");
        let address = first.as_ptr();
        let bytes = claim.adopt(first);
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(pool.take(LARGE).0.len(), SMALL_LEN, "a slice still holds it");
        drop(slice);
        let (again, _claim) = pool.take(8 << 10);
        assert_eq!((again.len(), again.as_ptr()), (8 << 10, address));
    }

    #[test]
    fn a_failed_read_does_not_lose_its_buffer() {
        let pool = Pool::new(LARGE, 1);
        drop(pool.take(LARGE));
        assert_eq!(pool.take(LARGE).0.len(), LARGE);
    }
}
