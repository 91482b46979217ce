//! The RAM of a domain, as the host sees it.
use paravane_abi::layout::RAM_BASE;
use std::io;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// The RAM of one domain, mapped in this process at the guest's own addresses, so that a guest
/// virtual address and a host address are the same number on every backend.
///
/// The guest may change any byte at any time. Host code reads through `vm-memory` only: copy once,
/// validate the copy, use the copy. Pages that the guest may not write (image text, guard pages) are
/// protected in this mapping on the process backend, so that an access that the guest talked a device
/// into ends as a report about the guest, see `backend::process`.
#[derive(Debug, Clone)]
pub struct GuestRam {
    memory: GuestMemoryMmap<()>,
    size: u64,
}

impl GuestRam {
    /// Maps `size` bytes of zeroed RAM at [`RAM_BASE`].
    ///
    /// # Errors
    /// The address range is taken, or the host has not enough address space.
    pub fn new(size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(io::Error::other)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: MAP_FIXED_NOREPLACE never replaces an existing mapping.
        let address = unsafe { libc::mmap(RAM_BASE as *mut libc::c_void, len, prot, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping was just made with this size and protection and is never unmapped
        // while the process runs a domain.
        let region = unsafe { MmapRegion::build_raw(address.cast(), len, prot, flags) }
            .map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(region, GuestAddress(0))
            .ok_or_else(|| io::Error::other("the RAM size overflows the address space"))?;
        let memory = GuestMemoryMmap::from_regions(vec![region]).map_err(io::Error::other)?;
        Ok(Self { memory, size })
    }

    /// Maps `size` bytes of zeroed RAM wherever there is room: for tests, which need many.
    #[cfg(test)]
    pub(crate) fn anywhere(size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(io::Error::other)?;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]);
        Ok(Self { memory: memory.map_err(io::Error::other)?, size })
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The RAM by device address (= RAM offset: `dma_offset` is 0 under this VMM), for `virtio-queue`.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap<()> {
        &self.memory
    }
}
