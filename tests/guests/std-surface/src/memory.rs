//! The heap, by std's and by C's names. What is allocated goes through a `black_box`, as compilers leave
//! out allocations that they see no use of.
use crate::Check;
use std::alloc::{Layout, alloc, dealloc, realloc};
use std::hint::black_box;
use std::ptr::null_mut;

pub(crate) const CHECKS: &[Check] = &[
    ("Vec growth", vec_growth),
    ("aligned allocation", aligned_allocation),
    ("malloc", malloc),
    ("calloc", calloc),
    ("realloc", c_realloc),
    ("posix_memalign", posix_memalign),
    ("memory is reused", memory_is_reused),
];

fn vec_growth() {
    let mut numbers = Vec::new();
    for i in 0..100_000_u64 {
        numbers.push(i);
    }
    assert!(numbers.iter().zip(0..).all(|(&found, i)| found == i));
}

fn aligned_allocation() {
    for align in [1, 8, 64, 4096, 65536] {
        let layout = Layout::from_size_align(100, align).unwrap();
        // SAFETY: the layout has a size; the memory is used within it and freed with its layout.
        unsafe {
            let memory = alloc(layout);
            assert!(is_aligned(memory, align));
            memory.write_bytes(7, 100);
            let memory = realloc(memory, layout, 5000);
            assert!(is_aligned(memory, align));
            assert_eq!([memory.read(), memory.add(99).read()], [7, 7]);
            dealloc(memory, Layout::from_size_align(5000, align).unwrap());
        }
    }
}

fn is_aligned<T>(block: *mut T, align: usize) -> bool {
    !block.is_null() && block.addr().is_multiple_of(align)
}

fn malloc() {
    for size in [0, 1, 15, 16, 17, 1000, 100_000] {
        // SAFETY: the block is written within its size and freed once.
        unsafe {
            let (a, b) = (black_box(libc::malloc(size)), black_box(libc::malloc(size)));
            assert!(is_aligned(a, 16) && is_aligned(b, 16) && a != b);
            a.cast::<u8>().write_bytes(1, size);
            b.cast::<u8>().write_bytes(2, size);
            assert!((0..size).all(|i| a.cast::<u8>().add(i).read() == 1));
            libc::free(a);
            libc::free(b);
        }
    }
    // SAFETY: nothing is passed but sizes, and null, which C lets pass.
    unsafe {
        assert!(black_box(libc::malloc(usize::MAX)).is_null());
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
        assert!(black_box(libc::malloc(1 << 40)).is_null());
        libc::free(null_mut());
    }
}

fn calloc() {
    // SAFETY: the blocks are used within their size and freed once.
    unsafe {
        let dirty = libc::malloc(1000).cast::<u8>();
        dirty.write_bytes(0xff, 1000);
        libc::free(black_box(dirty).cast());
        let block = black_box(libc::calloc(10, 100)).cast::<u8>();
        assert!((0..1000).all(|i| block.add(i).read() == 0));
        libc::free(block.cast());
        assert!(black_box(libc::calloc(usize::MAX, 2)).is_null(), "the product does not fit");
    }
}

fn c_realloc() {
    // SAFETY: the block is used within its size; each pointer is used until it is passed on.
    unsafe {
        let mut block = libc::realloc(null_mut(), 10).cast::<u8>();
        block.write_bytes(3, 10);
        for size in [100, 10_000, 50, 10] {
            block = libc::realloc(block.cast(), size).cast();
            assert!(is_aligned(block, 16));
            assert!((0..10).all(|i| block.add(i).read() == 3), "the contents move along");
        }
        assert!(black_box(libc::realloc(block.cast(), usize::MAX)).is_null());
        assert_eq!(block.read(), 3, "a block that cannot grow stays");
        libc::free(block.cast());
    }
}

fn posix_memalign() {
    let mut block = null_mut();
    for align in [8, 16, 64, 4096] {
        // SAFETY: the block is used within its size and freed once.
        unsafe {
            assert_eq!(libc::posix_memalign(&raw mut block, align, 300), 0);
            assert!(is_aligned(block, align));
            block.cast::<u8>().write_bytes(9, 300);
            block = libc::realloc(block, 600);
            assert_eq!(block.cast::<u8>().add(299).read(), 9);
            libc::free(block);
        }
    }
    let last = block;
    // SAFETY: no block is made.
    unsafe {
        assert_eq!(libc::posix_memalign(&raw mut block, 24, 8), libc::EINVAL);
        assert_eq!(libc::posix_memalign(&raw mut block, 16, 1 << 40), libc::ENOMEM);
    }
    assert_eq!(block, last, "nothing was stored");
}

/// What is freed is used again: more goes through the heap than the guest has memory.
fn memory_is_reused() {
    for size in (0..200).map(|i| (1 << 20) + i * 4096) {
        assert_eq!(black_box(vec![1_u8; size])[size - 1], 1);
    }
}
