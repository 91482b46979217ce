//! The guest's RAM, as the shim sees it.
use crate::heap;
use core::ptr::NonNull;

/// The guest's RAM, mapped for the shim. Offsets and lengths are the callers' to check: they were found to lie
/// in RAM by the address space.
#[derive(Debug)]
pub struct Ram {
    base: NonNull<u8>,
    physical: u64,
    size: u64,
}

impl Ram {
    /// RAM of `size` bytes at the physical address `physical`, mapped at `base`.
    ///
    /// # Safety
    /// Mapped for reading and writing for ever; no Rust object lies there.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, physical: u64, size: u64) -> Self {
        Self { base, physical, size }
    }

    /// Makes every byte zero. Memory that is zero already is only read, which a host that gives memory on
    /// demand does not have to provide.
    pub fn clear(&self) {
        const BLOCK: usize = 4096 / size_of::<u128>();
        let words = self.base.as_ptr().cast::<u128>();
        let count = usize::try_from(self.size).unwrap_or(0) / size_of::<u128>();
        for first in (0..count).step_by(BLOCK) {
            // SAFETY: RAM sizes are multiples of a page; nobody else uses the memory yet.
            let block = unsafe { core::slice::from_raw_parts_mut(words.add(first), BLOCK) };
            if block.iter().fold(0, |all, word| all | *word) != 0 {
                block.fill(0);
            }
        }
    }

    /// Copies the bytes at `offset` to `buffer`; false if they do not lie in RAM.
    #[must_use]
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Some(from) = self.at(offset, buffer.len()) else { return false };
        // SAFETY: in RAM, and the shim's buffers are not; the guest does not run meanwhile, and a device that
        // writes there at the same time can only change which bytes are seen.
        unsafe { core::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len()) };
        true
    }

    /// Copies `bytes` to `offset`; false if that does not lie in RAM.
    #[must_use]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.at(offset, bytes.len()) else { return false };
        // SAFETY: as for reading.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        true
    }

    /// Makes `len` bytes at `offset` zero; false if they do not lie in RAM.
    #[must_use]
    pub fn zero(&self, offset: u64, len: u64) -> bool {
        let Some(len) = usize::try_from(len).ok() else { return false };
        let Some(to) = self.at(offset, len) else { return false };
        // SAFETY: as for writing.
        unsafe { to.write_bytes(0, len) };
        true
    }

    /// Gives the RAM to the shim's heap.
    ///
    /// # Safety
    /// The guest and this object are used no more.
    pub unsafe fn become_heap(&self) {
        let len = usize::try_from(self.size).unwrap_or(0);
        // SAFETY: the promise of `new`, and the caller's.
        unsafe { heap::refill(self.base, len) };
    }

    /// Physical address of RAM offset 0, which is what devices see.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    fn at(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        let offset = usize::try_from(offset).ok()?;
        (end <= self.size).then(|| self.base.as_ptr().wrapping_add(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ram_is_touched() {
        let mut memory = vec![7_u128; 2 * 256];
        let base = NonNull::new(memory.as_mut_ptr().cast()).unwrap();
        // SAFETY: the vector outlives the RAM and is not used meanwhile.
        let ram = unsafe { Ram::new(base, 0, 8192) };
        let mut two = [0; 2];
        assert!(ram.read(8190, &mut two) && two[1] == 0);
        assert!(!ram.read(8191, &mut two));
        assert!(!ram.write(u64::MAX, &[1]));
        assert!(!ram.zero(4096, u64::MAX));
        ram.clear();
        assert!(ram.write(4094, &[1, 2, 3]));
        assert!(ram.zero(4095, 1));
        assert!(ram.read(4094, &mut two));
        assert_eq!(two, [1, 0]);
        assert!(memory.iter().skip(257).all(|&word| word == 0));
    }
}
