//! Memory that is shared with processes forked later.
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

/// A piece of shared memory. Its pages take room only once they are written. It has no file that another
/// process could cut short under us.
#[derive(Debug, Clone)]
pub(super) struct SharedMemory(Arc<MmapRegion>);

impl SharedMemory {
    /// Maps `len` bytes of zeroes.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let region = MmapRegion::build(None, len, prot, flags).map_err(io::Error::other)?;
        Ok(Self(Arc::new(region)))
    }

    /// The word at `offset`, which the caller knows to be aligned and inside.
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        match self.0.get_atomic_ref(offset) {
            Ok(word) => word,
            Err(error) => unreachable!("a word of the wire: {error}"),
        }
    }

    /// `len` bytes from `offset` on, which the caller knows to be inside.
    pub(super) fn bytes(&self, offset: usize, len: usize) -> VolatileSlice<'_> {
        match self.0.get_slice(offset, len) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("bytes of the wire: {error}"),
        }
    }
}
