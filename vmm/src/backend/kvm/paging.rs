//! Page tables for the guest, built in a buffer before the vCPU exists (Intel SDM volume 3, 4.5; AMD
//! APM volume 2, 5.3).
use paravane_abi::layout::PAGE_SIZE;
use paravane_host::width::to_usize;

/// Bytes of a large page.
const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Entries of a table.
const ENTRIES: usize = 512;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Bits 12 to 51 of an entry: the address of a table or page.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a mapping allows, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    /// Stores are allowed.
    pub(super) write: bool,
    /// Instruction fetches are allowed.
    pub(super) execute: bool,
    /// The guest, at CPL 3, has this access; otherwise only the stubs at CPL 0.
    pub(super) user: bool,
}

impl Access {
    /// The bits of a last-level entry. Accessed and dirty are set from the start, so that the
    /// processor never writes to the tables.
    fn bits(self) -> u64 {
        let bit = |set: bool, bit| if set { bit } else { 0 };
        PRESENT
            | ACCESSED
            | DIRTY
            | bit(self.write, WRITABLE)
            | bit(self.user, USER)
            | bit(!self.execute, NO_EXECUTE)
    }
}

/// Four-level page tables that will lie at consecutive guest-physical pages, the root first.
#[derive(Debug)]
pub(super) struct PageTables {
    base: u64,
    tables: Vec<[u64; ENTRIES]>,
}

impl PageTables {
    /// Empty tables that will lie at guest-physical address `base` and behind.
    pub(super) fn new(base: u64) -> Self {
        Self { base, tables: vec![[0; ENTRIES]] }
    }

    /// Maps `len` bytes from virtual address `virt` to guest-physical address `phys`, all multiples
    /// of the page size, with large pages where both sides are aligned for them. An earlier mapping
    /// of a page is replaced, but a large page cannot be split again.
    pub(super) fn map(&mut self, virt: u64, phys: u64, len: u64, access: Access) {
        debug_assert!((virt | phys | len).is_multiple_of(PAGE_SIZE));
        let mut done = 0;
        while done < len {
            let (from, to) = (virt + done, phys + done);
            let large =
                (from | to).is_multiple_of(LARGE_PAGE_SIZE) && len - done >= LARGE_PAGE_SIZE;
            if large {
                *self.entry(from, 2) = to | access.bits() | LARGE;
                done += LARGE_PAGE_SIZE;
            } else {
                *self.entry(from, 1) = to | access.bits();
                done += PAGE_SIZE;
            }
        }
    }

    /// The tables as they are to lie in memory.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.tables.iter().flatten().flat_map(|entry| entry.to_le_bytes()).collect()
    }

    /// The entry for `virt` at `level` (1 = last), with the tables above it made as needed.
    fn entry(&mut self, virt: u64, level: u32) -> &mut u64 {
        let mut table = 0;
        for upper in (level + 1..=4).rev() {
            table = self.table_below(table, index(virt, upper));
        }
        &mut self.tables[table][index(virt, level)]
    }

    /// The number of the table that entry `index` of table `table` points to. Upper entries allow
    /// everything: the last level decides.
    fn table_below(&mut self, table: usize, index: usize) -> usize {
        let entry = self.tables[table][index];
        if entry & PRESENT != 0 {
            debug_assert_eq!(entry & LARGE, 0, "a large page is mapped here");
            return self.number_of(entry & ADDRESS);
        }
        let address = self.base + self.tables.len() as u64 * PAGE_SIZE;
        self.tables[table][index] = address | PRESENT | WRITABLE | USER | ACCESSED;
        self.tables.push([0; ENTRIES]);
        self.tables.len() - 1
    }

    fn number_of(&self, address: u64) -> usize {
        to_usize((address - self.base) / PAGE_SIZE)
    }
}

/// Index of the entry for `virt` in a table of `level` (1 = last).
fn index(virt: u64, level: u32) -> usize {
    to_usize(virt >> (12 + 9 * (level - 1)) & 0x1ff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: u64 = 0x10_7000;
    const READ: Access = Access { write: false, execute: false, user: true };
    const WRITE: Access = Access { write: true, ..READ };
    const EXECUTE: Access = Access { execute: true, ..READ };

    /// What the processor finds for `virt` by the rules of the manuals: the physical address and
    /// the intersection of the rights of all levels.
    fn walk(tables: &PageTables, virt: u64) -> Option<(u64, Access)> {
        let bytes = tables.bytes();
        let (mut table, mut rights) = (tables.base, WRITABLE | USER);
        let mut no_execute = 0;
        for level in (1..=4).rev() {
            let at = usize::try_from(table - tables.base).unwrap() + 8 * index(virt, level);
            let entry = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            if entry & PRESENT == 0 {
                return None;
            }
            rights &= entry;
            no_execute |= entry & NO_EXECUTE;
            table = entry & ADDRESS;
            if level == 1 || entry & LARGE != 0 {
                let offset_mask = (1 << (12 + 9 * (level - 1))) - 1;
                let access = Access {
                    write: rights & WRITABLE != 0,
                    execute: no_execute == 0,
                    user: rights & USER != 0,
                };
                return Some((table | virt & offset_mask, access));
            }
        }
        unreachable!("the loop ends at level 1")
    }

    #[test]
    fn a_page_has_its_address_and_access_and_its_neighbours_are_absent() {
        for access in [READ, WRITE, EXECUTE, Access { user: false, ..EXECUTE }] {
            let mut tables = PageTables::new(BASE);
            tables.map(0x1000_0020_1000, 0x1_0020_1000, 0x2000, access);
            assert_eq!(walk(&tables, 0x1000_0020_1abc), Some((0x1_0020_1abc, access)));
            assert_eq!(walk(&tables, 0x1000_0020_2fff), Some((0x1_0020_2fff, access)));
            assert_eq!(walk(&tables, 0x1000_0020_0fff), None);
            assert_eq!(walk(&tables, 0x1000_0020_3000), None);
        }
    }

    #[test]
    fn aligned_stretches_take_large_pages() {
        let mut tables = PageTables::new(BASE);
        tables.map(0x1000_0000_0000, 0x1_0000_0000, 1 << 30, WRITE);
        assert_eq!(tables.tables.len(), 3, "one table each of levels 4 to 2");
        assert_eq!(walk(&tables, 0x1000_3fff_ffff), Some((0x1_3fff_ffff, WRITE)));
        assert_eq!(walk(&tables, 0x1000_4000_0000), None);
    }

    #[test]
    fn nothing_is_mapped_at_address_0() {
        let mut tables = PageTables::new(BASE);
        tables.map(0x1000_0000_0000, 0x1_0000_0000, 1 << 21, WRITE);
        assert_eq!(walk(&tables, 0), None);
    }

    proptest! {
        #[test]
        fn every_byte_of_a_mapping_translates(
            page in 0_u64..2048, shift in 0_u64..4, pages in 1_u64..2048, probe in 0_u64..2048
        ) {
            let (virt, phys) = (0x1000_0000_0000 + page * PAGE_SIZE, 0x1_0000_0000 + (page + shift) * PAGE_SIZE);
            let mut tables = PageTables::new(BASE);
            tables.map(virt, phys, pages * PAGE_SIZE, READ);
            let address = 0x1000_0000_0000 + probe * PAGE_SIZE + 5;
            let expect = (virt..virt + pages * PAGE_SIZE).contains(&address);
            prop_assert_eq!(walk(&tables, address), expect.then(|| (address - virt + phys, READ)));
        }
    }
}
