//! The RAM that the heap may use, and how it grows into it.
//!
//! The heap touches the memory it manages, and the host gives a guest only the pages that it touches.
//! So RAM is handed to the heap step by step, as it runs out, in steps that follow its size.
use crate::to_usize;
use core::alloc::Layout;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// Most regions: RAM below the image, RAM behind the stacks.
const REGIONS_MAX: usize = 2;

/// Least growth, bytes.
const STEP_MIN: usize = 64 << 10;

/// Most growth beyond what is needed, bytes.
const STEP_MAX: usize = 4 << 20;

/// Bytes that an allocation may need beyond its size and alignment: the allocator's tags, and its
/// own tables in the first region.
const OVERHEAD: usize = 4 << 10;

/// A span of RAM that the heap grows into from its start.
#[derive(Debug, Clone, Copy)]
struct Region {
    start: *mut u8,
    len: usize,
    /// Bytes handed to the heap.
    grown: usize,
    /// The end of the heap in this region, once there is one.
    heap_end: Option<NonNull<u8>>,
}

impl Region {
    const EMPTY: Self = Self { start: core::ptr::null_mut(), len: 0, grown: 0, heap_end: None };

    fn left(&self) -> usize {
        self.len - self.grown
    }
}

/// The regions, as a source for the allocator.
#[derive(Debug)]
pub(super) struct Regions([Region; REGIONS_MAX]);

impl Regions {
    pub(super) const fn new() -> Self {
        Self([Region::EMPTY; REGIONS_MAX])
    }

    /// Adds the `len` bytes at virtual address `address`. Regions beyond [`REGIONS_MAX`] are ignored.
    ///
    /// # Safety
    /// That memory is valid and nobody else's while the heap is used.
    pub(super) unsafe fn add(&mut self, address: u64, len: u64) {
        if let Some(region) = self.0.iter_mut().find(|region| region.len == 0) {
            let start = with_exposed_provenance_mut(to_usize(address));
            *region = Region { start, len: to_usize(len), ..Region::EMPTY };
        }
    }

    /// Bytes handed to the heap.
    pub(super) fn grown(&self) -> usize {
        self.0.iter().map(|region| region.grown).sum()
    }

    /// Bytes in all regions.
    pub(super) fn capacity(&self) -> usize {
        self.0.iter().map(|region| region.len).sum()
    }

    /// The region to grow for an allocation that needs `needed` bytes, and by how much: a part of
    /// what the heap has already, so that a large heap grows in few steps and a small one stays
    /// small.
    fn plan(&self, needed: usize) -> Option<(usize, usize)> {
        let index = self.0.iter().position(|region| region.left() >= needed)?;
        let step = (self.grown() / 4).clamp(STEP_MIN, STEP_MAX).max(needed);
        let step = step.next_multiple_of(STEP_MIN);
        Some((index, step.min(self.0[index].left())))
    }
}

// SAFETY: `acquire` gives the allocator only memory that `Regions::add` was promised, each byte once,
// and uses no allocator but the one passed in.
unsafe impl Source for Regions {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let needed = layout.size().checked_add(layout.align() + OVERHEAD).ok_or(())?;
        let (index, step) = talc.source.plan(needed).ok_or(())?;
        let Region { start, grown, heap_end, .. } = talc.source.0[index];
        let end = start.wrapping_add(grown + step);
        let heap_end = match heap_end {
            // SAFETY: the memory up to `end` lies in the region; none of it was handed out yet.
            Some(heap_end) => Some(unsafe { talc.extend(heap_end, end) }),
            // SAFETY: the same; the region is the heap's for good.
            None => unsafe { talc.claim(start, step) },
        };
        let region = &mut talc.source.0[index];
        region.heap_end = heap_end;
        region.grown += step;
        heap_end.map(drop).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use talc::DefaultBinning;

    const KIB: usize = 1 << 10;

    /// A heap over regions of these sizes, with the memory behind it.
    fn heap(sizes: &[usize]) -> (Talc<Regions, DefaultBinning>, Vec<Vec<u8>>) {
        let mut memory: Vec<_> = sizes.iter().map(|&len| alloc::vec![0_u8; len]).collect();
        let mut regions = Regions::new();
        for part in &mut memory {
            // SAFETY: the vector outlives the heap in each test and is not touched meanwhile.
            unsafe {
                regions.add(part.as_mut_ptr().expose_provenance() as u64, part.len() as u64);
            }
        }
        (Talc::new(regions), memory)
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn a_small_heap_stays_small() {
        let (mut heap, _memory) = heap(&[2048 * KIB, 8192 * KIB]);
        assert_eq!(heap.source.grown(), 0);
        // SAFETY: the size is not zero.
        assert!(unsafe { heap.allocate(layout(100)) }.is_some());
        assert_eq!(heap.source.grown(), STEP_MIN);
        // SAFETY: the size is not zero.
        assert!(unsafe { heap.allocate(layout(100 * KIB)) }.is_some());
        assert_eq!(heap.source.grown(), 3 * STEP_MIN);
    }

    #[test]
    fn a_large_allocation_goes_where_it_fits() {
        let (mut heap, memory) = heap(&[256 * KIB, 4096 * KIB]);
        // SAFETY: the size is not zero.
        let pointer = unsafe { heap.allocate(layout(1024 * KIB)) }.unwrap();
        assert!(memory[1].as_ptr_range().contains(&pointer.as_ptr().cast_const()));
        // SAFETY: the size is not zero.
        let pointer = unsafe { heap.allocate(layout(128 * KIB)) }.unwrap();
        assert!(memory[0].as_ptr_range().contains(&pointer.as_ptr().cast_const()));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_rest_is_usable() {
        let (mut heap, _memory) = heap(&[256 * KIB, 512 * KIB]);
        for size in [513 * KIB, 1 << 40, isize::MAX.unsigned_abs() - 15] {
            // SAFETY: the size is not zero.
            assert_eq!(unsafe { heap.allocate(layout(size)) }, None);
        }
        // SAFETY: the size is not zero.
        let count = core::iter::from_fn(|| unsafe { heap.allocate(layout(1000)) }).count();
        assert!(count >= 750, "{count} of 768 KiB");
        assert_eq!(heap.source.grown(), heap.source.capacity());
    }

    proptest! {
        /// Live allocations keep their contents whatever happens around them.
        #[test]
        fn allocations_do_not_overlap(steps in prop::collection::vec((0..16usize, 1..40_000usize, 0..13u32), 1..150)) {
            let (mut heap, _memory) = heap(&[128 * KIB, 512 * KIB]);
            let mut live: [Option<(NonNull<u8>, Layout, u8)>; 16] = [None; 16];
            for (fill, (slot, size, align)) in (0..=u8::MAX).zip(steps) {
                if let Some((pointer, layout, fill)) = live[slot].take() {
                    // SAFETY: the allocation is live and initialised, and freed once.
                    unsafe {
                        let bytes = core::slice::from_raw_parts(pointer.as_ptr(), layout.size());
                        prop_assert!(bytes.iter().all(|&byte| byte == fill));
                        heap.deallocate(pointer.as_ptr(), layout);
                    }
                }
                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                // SAFETY: the size is not zero.
                if let Some(pointer) = unsafe { heap.allocate(layout) } {
                    prop_assert!(pointer.addr().get().is_multiple_of(layout.align()));
                    // SAFETY: the allocation is that long.
                    unsafe { pointer.as_ptr().write_bytes(fill, size) };
                    live[slot] = Some((pointer, layout, fill));
                }
            }
        }
    }
}
