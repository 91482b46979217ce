//! Which physical memory becomes the guest's RAM.
use crate::pvh::Area;
use alloc::vec::Vec;
use core::ops::Range;
use paravane_abi::layout::{RAM_SIZE_ALIGN, RAM_SIZE_MAX};

/// The largest range of RAM in `areas` without the addresses in `taken`: its ends are multiples of the
/// granularity of RAM sizes, and it is not longer than RAM can be. Empty if there is none.
#[must_use]
pub fn largest(areas: &[Area], taken: &Range<u64>) -> Range<u64> {
    let range = |area: &Area| area.start..area.start.saturating_add(area.len);
    let holes = areas.iter().filter(|a| !a.is_ram).map(range).chain([taken.clone()]);
    let holes: Vec<_> = holes.filter(|hole| !hole.is_empty()).collect();
    let ram = areas.iter().filter(|a| a.is_ram).map(range);
    let free = ram.flat_map(|range| holes.iter().fold(Vec::from([range]), without));
    let trimmed = free.filter_map(|range| trim(&range));
    trimmed.max_by_key(|range| range.end - range.start).unwrap_or(0..0)
}

fn without(ranges: Vec<Range<u64>>, hole: &Range<u64>) -> Vec<Range<u64>> {
    let split = |range: Range<u64>| {
        let below = range.start..range.end.min(hole.start);
        let above = range.start.max(hole.end)..range.end;
        [below, above]
    };
    ranges.into_iter().flat_map(split).filter(|range| !range.is_empty()).collect()
}

fn trim(range: &Range<u64>) -> Option<Range<u64>> {
    let start = range.start.checked_next_multiple_of(RAM_SIZE_ALIGN)?;
    let end = range.end - range.end % RAM_SIZE_ALIGN;
    (start < end).then(|| start..end.min(start + RAM_SIZE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn area(start: u64, end: u64, is_ram: bool) -> Area {
        Area { start, len: end - start, is_ram }
    }

    #[test]
    fn the_largest_range_that_is_free_is_taken() {
        let check = |areas: &[Area], taken: Range<u64>, expect: Range<u64>| {
            assert_eq!(largest(areas, &taken), expect);
        };
        let low = area(0, 0x9_fc00, true);
        let main = area(MIB, 64 * MIB, true);
        check(&[low, main], 2 * MIB..5 * MIB - 10, 6 * MIB..64 * MIB);
        check(&[low, main], 30 * MIB..31 * MIB, 32 * MIB..64 * MIB);
        check(&[low, main], 40 * MIB..64 * MIB, 2 * MIB..40 * MIB);
        // RAM above 4 GiB, and something that lies over RAM.
        let high = area(4096 * MIB, 4200 * MIB, true);
        check(&[main, high], 2 * MIB..3 * MIB, 4096 * MIB..4200 * MIB);
        let firmware = area(4150 * MIB, 4151 * MIB, false);
        check(&[main, high, firmware], 2 * MIB..3 * MIB, 4 * MIB..64 * MIB);
        check(&[area(0, 1 << 40, true)], 0..MIB, 2 * MIB..2 * MIB + RAM_SIZE_MAX);
    }

    #[test]
    fn too_little_is_nothing() {
        assert!(largest(&[], &(0..MIB)).is_empty());
        assert_eq!(largest(&[area(0, 3 * MIB, true)], &(2 * MIB..3 * MIB)), 0..2 * MIB);
        assert!(largest(&[area(MIB, 3 * MIB, true)], &(2 * MIB..3 * MIB)).is_empty());
        assert!(largest(&[area(0, 64 * MIB, false)], &(0..0)).is_empty());
        assert!(largest(&[Area { start: u64::MAX - 5, len: 5, is_ram: true }], &(0..0)).is_empty());
    }
}
