//! Buffers for streaming: a bounded number of large ones, used again and again.
use bytes::Bytes;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stream gets when all large buffers are in use, bytes. Clients that are slow to take their
/// data may hold all large buffers; the others still advance.
const SMALL_LEN: usize = 4 << 10;

/// The pool. Large buffers are made when first needed and then kept.
#[derive(Debug)]
pub(super) struct Pool<B> {
    shelf: Arc<Shelf<B>>,
}

/// The large buffers not in use. [`Bytes`] wants its owner to be `Send`, hence the lock, which nobody
/// ever waits for: the appliance has one thread.
#[derive(Debug)]
struct Shelf<B> {
    buffer_len: usize,
    state: Mutex<State<B>>,
}

#[derive(Debug)]
struct State<B> {
    idle: Vec<B>,
    /// Large buffers that may be taken, idle or not yet made.
    free: usize,
}

/// A buffer that was taken, how much of it is to be used, and the claim to hand it back with.
#[derive(Debug)]
pub(super) struct Taken<B> {
    pub(super) buffer: B,
    pub(super) len: usize,
    pub(super) claim: Claim<B>,
}

impl<B: AsRef<[u8]> + Send + 'static> Pool<B> {
    /// A pool of at most `count` buffers of `buffer_len` bytes.
    pub(super) fn new(buffer_len: usize, count: usize) -> Self {
        let state = Mutex::new(State { idle: Vec::new(), free: count });
        Self { shelf: Arc::new(Shelf { buffer_len, state }) }
    }

    /// A buffer for `len` bytes, or a small one if `len` is large and no large buffer is free. `len`
    /// is at most the pool's `buffer_len`. New buffers come from `make`.
    pub(super) fn take(
        &self,
        len: usize,
        make: impl FnOnce(usize) -> io::Result<B>,
    ) -> io::Result<Taken<B>> {
        if len > SMALL_LEN && self.shelf.reserve() {
            let claim = Claim(Some(Arc::clone(&self.shelf)));
            let idle = self.shelf.lock().idle.pop();
            let buffer = idle.map_or_else(|| make(self.shelf.buffer_len), Ok)?;
            return Ok(Taken { buffer, len, claim });
        }
        let len = len.min(SMALL_LEN);
        Ok(Taken { buffer: make(len)?, len, claim: Claim(None) })
    }

    /// Gives up the buffers that are not in use.
    pub(super) fn shrink(&self) {
        let idle = std::mem::take(&mut self.shelf.lock().idle);
        drop(idle);
    }
}

impl<B> Shelf<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims one of the large buffers, made or not.
    fn reserve(&self) -> bool {
        let mut state = self.lock();
        let rest = state.free.checked_sub(1);
        state.free = rest.unwrap_or(0);
        rest.is_some()
    }
}

/// The right to a large buffer. Dropped without [`Claim::adopt`] (the read failed or was given up), it
/// lets the pool make a new one.
#[derive(Debug)]
pub(super) struct Claim<B>(Option<Arc<Shelf<B>>>);

impl<B: AsRef<[u8]> + Send + 'static> Claim<B> {
    /// Makes the buffer of this claim into bytes that bring it back when the last of them is dropped.
    pub(super) fn adopt(mut self, buffer: B) -> Bytes {
        match self.0.take() {
            Some(shelf) => Bytes::from_owner(Borrowed { buffer: Some(buffer), shelf }),
            None => Bytes::from_owner(buffer),
        }
    }
}

impl<B> Claim<B> {
    /// Whether the buffer is a large one.
    pub(super) fn is_large(&self) -> bool {
        self.0.is_some()
    }
}

impl<B> Drop for Claim<B> {
    fn drop(&mut self) {
        if let Some(shelf) = &self.0 {
            shelf.lock().free += 1;
        }
    }
}

#[derive(Debug)]
struct Borrowed<B> {
    /// There until the end.
    buffer: Option<B>,
    shelf: Arc<Shelf<B>>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Borrowed<B> {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], B::as_ref)
    }
}

impl<B> Drop for Borrowed<B> {
    fn drop(&mut self) {
        let mut state = self.shelf.lock();
        state.free += 1;
        state.idle.extend(self.buffer.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 64 << 10;

    fn make(len: usize) -> io::Result<Vec<u8>> {
        Ok(vec![0; len])
    }

    #[test]
    fn large_buffers_are_bounded_and_come_back() {
        let pool = Pool::new(LARGE, 1);
        let first = pool.take(LARGE, make).unwrap();
        assert_eq!((first.len, first.claim.is_large()), (LARGE, true));
        let second = pool.take(LARGE, make).unwrap();
        assert_eq!(
            (second.len, second.claim.is_large()),
            (SMALL_LEN, false),
            "the only one is out"
        );
        let address = first.buffer.as_ptr();
        let bytes = first.claim.adopt(first.buffer);
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(pool.take(LARGE, make).unwrap().len, SMALL_LEN, "a slice still holds it");
        drop(slice);
        let again = pool.take(8 << 10, make).unwrap();
        assert_eq!((again.len, again.buffer.as_ptr()), (8 << 10, address));
    }

    #[test]
    fn a_failed_read_does_not_lose_its_buffer() {
        let pool = Pool::new(LARGE, 1);
        drop(pool.take(LARGE, make));
        assert_eq!(pool.take(LARGE, make).unwrap().len, LARGE);
        assert!(pool.take(LARGE, |_| Err(io::ErrorKind::OutOfMemory.into())).is_err());
        assert_eq!(pool.take(LARGE, make).unwrap().len, LARGE);
    }

    #[test]
    fn a_pool_shrinks_to_what_is_in_use() {
        let pool = Pool::new(LARGE, 2);
        let [first, second] = [(); 2].map(|()| pool.take(LARGE, make).unwrap());
        drop(first.claim.adopt(first.buffer));
        let lent = second.claim.adopt(second.buffer);
        pool.shrink();
        assert_eq!(pool.shelf.lock().idle.len(), 0);
        drop(lent);
        assert_eq!(pool.shelf.lock().idle.len(), 1);
        let again = [(); 3].map(|()| pool.take(LARGE, make).unwrap().claim);
        assert_eq!(again.map(|claim| claim.is_large()), [true, true, false]);
    }
}
