//! `malloc` and its relatives on the kernel's heap.
//!
//! The kernel wants to be told the layout of what it takes back, and C does not tell. So each block
//! is preceded by a [`Header`] that knows.
use crate::errno::{EINVAL, ENOMEM, fail};
use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use paravane_kernel::memory;

/// Alignment of what `malloc` returns, bytes: the largest of any C type (System V ABI, 3.1.2).
const ALIGN: usize = 16;

/// What lies directly before each block.
#[repr(C, align(16))]
struct Header {
    /// Bytes that the caller asked for.
    size: usize,
    /// Alignment of the block, bytes; also the distance from the start of the allocation.
    align: usize,
}

const _: () = assert!(size_of::<Header>() == ALIGN);

impl Header {
    /// The layout of the whole allocation, or `None` if there can be none so large.
    fn layout(&self) -> Option<Layout> {
        Layout::from_size_align(self.size.checked_add(self.align)?, self.align).ok()
    }

    /// The header of a block.
    ///
    /// # Safety
    /// `block` came from [`allocate`] or [`resize`] and has not been given back.
    unsafe fn of(block: *mut c_void) -> *mut Self {
        block.cast::<Self>().wrapping_sub(1)
    }
}

/// A block of `size` bytes, or null.
fn allocate(size: usize, align: usize) -> *mut c_void {
    let header = Header { size, align };
    let Some(layout) = header.layout() else { return null_mut() };
    let start = memory::allocate(layout);
    if start.is_null() {
        return null_mut();
    }
    // SAFETY: `align` is at least the size of a header, so that both the block and the header before it
    // lie in the allocation; and the header is aligned, as the block is.
    unsafe {
        let block = start.add(align);
        block.cast::<Header>().sub(1).write(header);
        block.cast()
    }
}

/// Gives a block back.
///
/// # Safety
/// As [`Header::of`]; nothing uses the block any more.
unsafe fn release(block: *mut c_void) {
    // SAFETY: by the caller the block has a header, and its layout is that of the allocation, which
    // starts `align` bytes before the block.
    unsafe {
        let header = Header::of(block).read();
        if let Some(layout) = header.layout() {
            memory::deallocate(block.byte_sub(header.align).cast(), layout);
        }
    }
}

/// Moves the contents of a block of `malloc`'s alignment to one of `size` bytes; null if there is none,
/// and the block stays.
///
/// # Safety
/// As [`release`], unless the result is null.
unsafe fn resize(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: by the caller.
    let old = unsafe { Header::of(block).read() };
    let new = Header { size, align: ALIGN };
    let (Some(layout), Some(new_layout)) = (old.layout(), new.layout()) else { return null_mut() };
    // SAFETY: the allocation starts `align` bytes before the block and has this layout.
    let start =
        unsafe { memory::reallocate(block.byte_sub(ALIGN).cast(), layout, new_layout.size()) };
    if start.is_null() {
        return null_mut();
    }
    // SAFETY: as in `allocate`.
    unsafe {
        start.cast::<Header>().write(new);
        start.add(ALIGN).cast()
    }
}

/// [`resize`] for a block with an alignment of its own, which `realloc` need not keep.
///
/// # Safety
/// As [`resize`].
unsafe fn resize_by_copy(block: *mut c_void, old_size: usize, size: usize) -> *mut c_void {
    let new = allocate(size, ALIGN);
    if !new.is_null() {
        // SAFETY: both blocks have at least that many bytes and are distinct; by the caller the old one
        // can go.
        unsafe {
            new.cast::<u8>().copy_from_nonoverlapping(block.cast(), old_size.min(size));
            release(block);
        }
    }
    new
}

/// Sets `errno` if `block` is null.
fn or_enomem(block: *mut c_void) -> *mut c_void {
    if block.is_null() {
        fail(ENOMEM);
    }
    block
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn malloc(size: usize) -> *mut c_void {
    or_enomem(allocate(size, ALIGN))
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let size = count.checked_mul(size);
    let block = or_enomem(size.map_or(null_mut(), |size| allocate(size, ALIGN)));
    if let (Some(size), false) = (size, block.is_null()) {
        // SAFETY: the block is ours and has `size` bytes.
        unsafe { block.cast::<u8>().write_bytes(0, size) };
    }
    block
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        return malloc(size);
    }
    // SAFETY: by the caller, as C has it: the block is one of ours.
    or_enomem(unsafe {
        let old = Header::of(block).read();
        if old.align == ALIGN { resize(block, size) } else { resize_by_copy(block, old.size, size) }
    })
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn free(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: by the caller, as C has it.
        unsafe { release(block) };
    }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<usize>() {
        return EINVAL;
    }
    let block = allocate(size, align.max(ALIGN));
    if block.is_null() {
        return ENOMEM;
    }
    // SAFETY: by the caller, as C has it.
    unsafe { out.write(block) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_has_room_for_block_and_header() {
        let check = |size, align, expect: Option<usize>| {
            let layout = Header { size, align }.layout();
            assert_eq!(layout.map(|layout| layout.size()), expect);
            assert!(layout.is_none_or(|layout| layout.align() == align));
        };
        check(0, 16, Some(16));
        check(100, 16, Some(116));
        check(100, 4096, Some(4196));
        check(usize::MAX, 16, None);
        check(isize::MAX.unsigned_abs() - 15, 16, None);
    }
}
