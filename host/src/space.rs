//! The address space of a domain: which page the guest may use how. Every host builds from
//! this, with mprotect(2) or with page tables.
use crate::access::Access;
use crate::image::Image;
use alloc::vec::Vec;
use core::ops::Range;
use paravane_abi::layout::{PAGE_SIZE, RAM_BASE, ram_offset};

/// A run of pages with one access. Addresses are virtual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Virtual addresses, whole pages.
    pub pages: Range<u64>,
    /// What the guest may do.
    pub access: Access,
    /// What the pages are.
    pub role: Role,
}

/// What pages are, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Pages of an image segment.
    Image,
    /// The lowest page of a stack slot.
    StackGuard {
        /// Number of the slot.
        slot: u32,
    },
}

/// The RAM of a domain: everything is readable and writable, but for the regions listed.
#[derive(Debug, Clone)]
pub struct AddressSpace {
    ram_size: u64,
    /// By address, not overlapping.
    regions: Vec<Region>,
    stack_base: u64,
    stack_size: u32,
    stack_slots: u32,
}

/// The image does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image needs at least {} MiB of memory, not {} MiB", needed >> 20, given >> 20)]
pub struct TooSmall {
    /// RAM that the image needs, bytes, rounded up to the granularity of RAM sizes.
    pub needed: u64,
    /// RAM of the domain, bytes.
    pub given: u64,
}

impl AddressSpace {
    /// Lays out `image` in `ram_size` bytes of RAM: the segments where they were linked, and the
    /// stack slots behind them.
    ///
    /// # Errors
    /// They do not fit.
    pub fn new(image: &Image, ram_size: u64) -> Result<Self, TooSmall> {
        let manifest = image.manifest();
        let stack_base = image.end();
        let needed = (stack_base + manifest.stacks_len()).max(manifest.ram_size_min);
        if needed > ram_size {
            let needed = needed.next_multiple_of(paravane_abi::layout::RAM_SIZE_ALIGN);
            return Err(TooSmall { needed, given: ram_size });
        }
        let segments = image.segments().iter().map(|segment| Region {
            pages: segment.pages(),
            access: segment.access,
            role: Role::Image,
        });
        let guards = (0..manifest.stack_slots).map(|slot| {
            let low = RAM_BASE + stack_base + u64::from(slot) * u64::from(manifest.stack_size);
            Region {
                pages: low..low + PAGE_SIZE,
                access: Access::None,
                role: Role::StackGuard { slot },
            }
        });
        Ok(Self {
            ram_size,
            regions: segments.chain(guards).collect(),
            stack_base,
            stack_size: manifest.stack_size,
            stack_slots: manifest.stack_slots,
        })
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn ram_size(&self) -> u64 {
        self.ram_size
    }

    /// The pages that are not simply readable and writable RAM, or belong to the image; by address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// RAM offset of stack slot 0 = that of the first page behind the image.
    #[must_use]
    pub fn stack_base(&self) -> u64 {
        self.stack_base
    }

    /// Bytes of a stack slot, guard page included.
    #[must_use]
    pub fn stack_size(&self) -> u32 {
        self.stack_size
    }

    /// Number of stack slots.
    #[must_use]
    pub fn stack_slots(&self) -> u32 {
        self.stack_slots
    }

    /// The stack pointer at entry: the end of slot 0, less the return address that is not there.
    #[must_use]
    pub fn entry_stack(&self) -> u64 {
        RAM_BASE + self.stack_base + u64::from(self.stack_size) - 8
    }

    /// What the guest may do with the RAM page at virtual address `address`; nothing outside RAM.
    #[must_use]
    pub fn access(&self, address: u64) -> Access {
        if ram_offset(address, 1, self.ram_size).is_none() {
            return Access::None;
        }
        self.region(address).map_or(Access::ReadWrite, |r| r.access)
    }

    /// The region at virtual address `address`.
    #[must_use]
    pub fn region(&self, address: u64) -> Option<&Region> {
        self.overlapping(address..address.saturating_add(1)).first()
    }

    /// The RAM offset of `len` bytes at virtual address `address`, if the guest may use all of them
    /// in the way that `allowed` asks for.
    #[must_use]
    pub fn check(&self, address: u64, len: u64, allowed: fn(Access) -> bool) -> Option<u64> {
        let offset = ram_offset(address, len, self.ram_size)?;
        let regions = self.overlapping(address..address + len);
        regions.iter().all(|r| allowed(r.access)).then_some(offset)
    }

    /// Whether all of `len` bytes at RAM offset `offset` are whole pages of plain RAM, neither image
    /// nor guard page.
    #[must_use]
    pub fn is_plain(&self, offset: u64, len: u64) -> bool {
        let whole = offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        let end = offset.checked_add(len).filter(|&end| whole && end <= self.ram_size);
        end.is_some_and(|end| self.overlapping(RAM_BASE + offset..RAM_BASE + end).is_empty())
    }

    fn overlapping(&self, range: Range<u64>) -> &[Region] {
        let first = self.regions.partition_point(|r| r.pages.end <= range.start);
        let end = self.regions.partition_point(|r| r.pages.start < range.end);
        self.regions.get(first..end).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::ElfBuilder;

    fn space() -> AddressSpace {
        let image = Image::read(ElfBuilder::default().build().as_slice()).unwrap();
        AddressSpace::new(&image, 4 << 20).unwrap()
    }

    #[test]
    fn buffers_must_be_accessible_altogether() {
        let space = space();
        let stack = RAM_BASE + space.stack_base();
        let check = |address, len, expect: bool| {
            assert_eq!(space.check(address, len, Access::can_write).is_some(), expect);
        };
        check(RAM_BASE, 4096, true);
        check(stack + PAGE_SIZE, 16, true);
        check(stack + PAGE_SIZE - 1, 16, false);
        check(stack, 1, false);
        check(RAM_BASE + space.ram_size() - 8, 8, true);
        check(RAM_BASE + space.ram_size() - 8, 9, false);
        check(RAM_BASE - 1, 1, false);
        check(u64::MAX, 2, false);
        check(space.regions()[0].pages.start, 1, false);
        assert!(space.check(space.regions()[0].pages.start, 1, Access::can_read).is_some());
    }

    #[test]
    fn only_whole_pages_of_plain_ram_are_plain() {
        let space = space();
        let guard = space.stack_base();
        assert!(space.is_plain(0, 0x20_0000));
        assert!(space.is_plain(guard + PAGE_SIZE, PAGE_SIZE));
        assert!(!space.is_plain(guard, PAGE_SIZE));
        assert!(!space.is_plain(0, 0x20_1000));
        assert!(!space.is_plain(1, PAGE_SIZE));
        assert!(!space.is_plain(0, 1));
        assert!(!space.is_plain(space.ram_size(), PAGE_SIZE));
        assert!(!space.is_plain(u64::MAX - 4095, PAGE_SIZE));
    }

    #[test]
    fn an_image_that_does_not_fit_is_refused_with_what_it_needs() {
        let mut elf = ElfBuilder::default();
        elf.manifests[0].ram_size_min = 5 << 20;
        let image = Image::read(elf.build().as_slice()).unwrap();
        let error = AddressSpace::new(&image, 4 << 20).unwrap_err();
        assert_eq!(error, TooSmall { needed: 6 << 20, given: 4 << 20 });
    }
}
