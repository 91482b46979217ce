//! `memcpy` and its relatives: [`copy`], [`fill`] and [`compare`], and their C names.
//!
//! Short lengths are handled with two accesses that may overlap, longer ones with 16-byte vectors, long
//! ones with the processor's string instructions. Nothing here panics or calls outside this crate.
use crate::vector::{load1, load4, load8, load16, store1, store4, store8, store16};
use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi8};
use core::ffi::{c_int, c_void};

/// From this length on, bytes, `rep movsb` and `rep stosb` beat a loop of 16-byte vectors (measured on an
/// Intel processor with ERMS).
const STRING_INSTRUCTION_MIN: usize = 640;

/// Up to this length, bytes, `rep movsb` is the faster. Beyond what the second-level cache holds a loop is, as
/// the processor fetches ahead for it (measured on the same).
const STRING_COPY_MAX: usize = 2 << 20;

/// Bytes that one turn of a loop handles.
const BLOCK: usize = 64;
const TWO_BLOCKS: usize = 2 * BLOCK;

/// Copies `len` bytes; the two areas may overlap.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`.
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: every case touches only the first `len` bytes of either area; those up to one block
    // read all before they write.
    unsafe {
        match len {
            0 => {}
            1..=3 => copy_up_to_3(to, from, len),
            4..=7 => {
                let (head, tail) = (load4(from), load4(from.wrapping_add(len - 4)));
                store4(to, head);
                store4(to.wrapping_add(len - 4), tail);
            }
            8..=16 => {
                let (head, tail) = (load8(from), load8(from.wrapping_add(len - 8)));
                store8(to, head);
                store8(to.wrapping_add(len - 8), tail);
            }
            17..=32 => {
                let (head, tail) = (load16(from), load16(from.wrapping_add(len - 16)));
                store16(to, head);
                store16(to.wrapping_add(len - 16), tail);
            }
            33..=BLOCK => copy_33_to_64(to, from, len),
            65..=TWO_BLOCKS => copy_65_to_128(to, from, len),
            _ => copy_blocks(to, from, len),
        }
    }
}

/// [`copy`] for `len` from 1 to 3.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn copy_up_to_3(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the offsets 0, len / 2 and len - 1 are all below `len`.
    unsafe {
        let head = load1(from);
        let middle = load1(from.wrapping_add(len / 2));
        let tail = load1(from.wrapping_add(len - 1));
        store1(to, head);
        store1(to.wrapping_add(len / 2), middle);
        store1(to.wrapping_add(len - 1), tail);
    }
}

/// [`copy`] for `len` from 33 to 64.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn copy_33_to_64(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: 16 bytes at 0, 16, len - 32 and len - 16 lie below `len`, which is above 32.
    unsafe {
        let (a, b) = (load16(from), load16(from.wrapping_add(16)));
        let (c, d) = (load16(from.wrapping_add(len - 32)), load16(from.wrapping_add(len - 16)));
        store16(to, a);
        store16(to.wrapping_add(16), b);
        store16(to.wrapping_add(len - 32), c);
        store16(to.wrapping_add(len - 16), d);
    }
}

/// [`copy`] for `len` from 65 to 128.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn copy_65_to_128(to: *mut u8, from: *const u8, len: usize) {
    let last = len - BLOCK;
    // SAFETY: 64 bytes at 0 and at len - 64 lie below `len`, which is above 64.
    unsafe {
        let head = load_block(from);
        let tail = load_block(from.wrapping_add(last));
        store_block(to, head);
        store_block(to.wrapping_add(last), tail);
    }
}

/// Reads one block.
///
/// # Safety
/// [`BLOCK`] bytes are readable at `from`.
#[inline(always)]
unsafe fn load_block(from: *const u8) -> [__m128i; 4] {
    // SAFETY: by the caller.
    unsafe { [0, 16, 32, 48].map(|offset| load16(from.wrapping_add(offset))) }
}

/// Writes one block.
///
/// # Safety
/// [`BLOCK`] bytes are writable at `to`.
#[inline(always)]
unsafe fn store_block(to: *mut u8, [a, b, c, d]: [__m128i; 4]) {
    // SAFETY: by the caller.
    unsafe {
        store16(to, a);
        store16(to.wrapping_add(16), b);
        store16(to.wrapping_add(32), c);
        store16(to.wrapping_add(48), d);
    }
}

/// [`copy`] for `len` above 128.
///
/// # Safety
/// As [`copy`].
unsafe fn copy_blocks(to: *mut u8, from: *const u8, len: usize) {
    // A forward copy is wrong only where it would overwrite what it has yet to read: where `to` lies
    // inside the source. The wrapping difference is at least `len` in all other cases.
    let distance = to.addr().wrapping_sub(from.addr());
    // SAFETY: by the caller.
    unsafe {
        if distance < len {
            copy_backward(to, from, len);
        } else if (STRING_INSTRUCTION_MIN..=STRING_COPY_MAX).contains(&len) {
            copy_string(to, from, len);
        } else {
            copy_forward(to, from, len);
        }
    }
}

/// [`copy`] with the string instruction.
///
/// # Safety
/// As [`copy`], and `to` does not lie inside the source.
unsafe fn copy_string(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: by the caller; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// [`copy`] from the low end up.
///
/// # Safety
/// As [`copy`]; `len` is above [`BLOCK`] and `to` does not lie inside the source.
unsafe fn copy_forward(to: *mut u8, from: *const u8, len: usize) {
    let last = len - BLOCK;
    // SAFETY: every block lies below `len`. The last one may overlap the one before it and is read
    // first, since that one may overwrite it.
    unsafe {
        let tail = load_block(from.wrapping_add(last));
        let mut offset = 0;
        while offset < last {
            store_block(to.wrapping_add(offset), load_block(from.wrapping_add(offset)));
            offset += BLOCK;
        }
        store_block(to.wrapping_add(last), tail);
    }
}

/// [`copy`] from the high end down.
///
/// # Safety
/// As [`copy`]; `len` is above [`BLOCK`] and `from` does not lie inside the destination.
unsafe fn copy_backward(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: every block lies below `len`. The first one may overlap the one after it and is read
    // first, since that one may overwrite it.
    unsafe {
        let head = load_block(from);
        let mut end = len;
        while end > BLOCK {
            end -= BLOCK;
            store_block(to.wrapping_add(end), load_block(from.wrapping_add(end)));
        }
        store_block(to, head);
    }
}

/// Sets `len` bytes to `value`.
///
/// # Safety
/// `len` bytes are writable at `to`.
unsafe fn fill(to: *mut u8, value: u8, len: usize) {
    let word = u64::from(value) * 0x0101_0101_0101_0101;
    // SAFETY: every case writes only the first `len` bytes.
    unsafe {
        match len {
            0 => {}
            1..=3 => {
                store1(to, value);
                store1(to.wrapping_add(len / 2), value);
                store1(to.wrapping_add(len - 1), value);
            }
            4..=7 => {
                let word = u32::from(value) * 0x0101_0101;
                store4(to, word);
                store4(to.wrapping_add(len - 4), word);
            }
            8..=16 => {
                store8(to, word);
                store8(to.wrapping_add(len - 8), word);
            }
            17..STRING_INSTRUCTION_MIN => fill_vectors(to, value, len),
            _ => fill_string(to, value, len),
        }
    }
}

/// [`fill`] for `len` above 16.
///
/// # Safety
/// As [`fill`].
unsafe fn fill_vectors(to: *mut u8, value: u8, len: usize) {
    // SAFETY: every x86-64 has SSE2.
    let vector = unsafe { _mm_set1_epi8(value.cast_signed()) };
    let last = len - 16;
    let mut offset = 0;
    // SAFETY: each vector begins at or below `last`, so it ends at or below `len`.
    unsafe {
        while offset < last {
            store16(to.wrapping_add(offset), vector);
            offset += 16;
        }
        store16(to.wrapping_add(last), vector);
    }
}

/// [`fill`] with the string instruction.
///
/// # Safety
/// As [`fill`].
unsafe fn fill_string(to: *mut u8, value: u8, len: usize) {
    // SAFETY: by the caller; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") len => _, inout("rdi") to => _, in("al") value,
            options(nostack, preserves_flags)
        );
    }
}

/// The difference of the first two bytes that differ among the first `len`; 0 if none do.
///
/// # Safety
/// `len` bytes are readable at `a` and at `b`.
pub(crate) unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> c_int {
    let mut offset = 0;
    // SAFETY: all offsets read, 16 bytes at a time or one, are below `len`.
    unsafe {
        while len - offset >= 16 {
            let difference = first_difference(a.wrapping_add(offset), b.wrapping_add(offset));
            if difference < 16 {
                return difference_at(a, b, offset + difference);
            }
            offset += 16;
        }
        while offset < len {
            let difference = difference_at(a, b, offset);
            if difference != 0 {
                return difference;
            }
            offset += 1;
        }
    }
    0
}

/// Offset of the first of 16 bytes in which `a` and `b` differ; 16 or more if none does.
///
/// # Safety
/// 16 bytes are readable at `a` and at `b`.
#[inline(always)]
unsafe fn first_difference(a: *const u8, b: *const u8) -> usize {
    // SAFETY: by the caller; every x86-64 has SSE2.
    let equal = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(load16(a), load16(b))) };
    (!equal).trailing_zeros() as usize
}

/// The difference of the bytes at `offset`.
///
/// # Safety
/// The bytes at `a + offset` and `b + offset` are readable.
#[inline(always)]
unsafe fn difference_at(a: *const u8, b: *const u8, offset: usize) -> c_int {
    // SAFETY: by the caller.
    let (a, b) = unsafe { (load1(a.wrapping_add(offset)), load1(b.wrapping_add(offset))) };
    c_int::from(a) - c_int::from(b)
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    // SAFETY: by the caller, as C has it.
    unsafe { copy(to.cast(), from.cast(), len) };
    to
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    // SAFETY: by the caller, as C has it.
    unsafe { copy(to.cast(), from.cast(), len) };
    to
}

#[cfg_attr(not(test), unsafe(no_mangle))]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "C: converted to unsigned char"
)]
unsafe extern "C" fn memset(to: *mut c_void, value: c_int, len: usize) -> *mut c_void {
    // SAFETY: by the caller, as C has it.
    unsafe { fill(to.cast(), value as u8, len) };
    to
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcmp(a: *const c_void, b: *const c_void, len: usize) -> c_int {
    // SAFETY: by the caller, as C has it.
    unsafe { compare(a.cast(), b.cast(), len) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn bcmp(a: *const c_void, b: *const c_void, len: usize) -> c_int {
    // SAFETY: by the caller, as C has it.
    unsafe { compare(a.cast(), b.cast(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Lengths around every boundary between two ways of copying.
    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![0..200_usize, 600..700_usize]
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 256).to_le_bytes()[0]).collect()
    }

    proptest! {
        #[test]
        fn copy_is_a_copy_also_of_overlapping_areas(len in lengths(), from in 0..300_usize, to in 0..300_usize) {
            let mut found = bytes(1000);
            let mut expect = found.clone();
            expect.copy_within(from..from + len, to);
            let base = found.as_mut_ptr();
            // SAFETY: both areas end before 300 + 700.
            unsafe { copy(base.wrapping_add(to), base.wrapping_add(from), len) };
            prop_assert_eq!(found, expect);
        }

        #[test]
        fn fill_sets_the_area_and_nothing_else(len in lengths(), to in 0..64_usize, value: u8) {
            let mut found = bytes(1000);
            let mut expect = found.clone();
            expect[to..to + len].fill(value);
            // SAFETY: the area ends before 64 + 700.
            unsafe { fill(found.as_mut_ptr().wrapping_add(to), value, len) };
            prop_assert_eq!(found, expect);
        }

        #[test]
        fn compare_has_the_sign_of_the_order(a: Vec<u8>, at: proptest::sample::Index, change: u8) {
            let mut b = a.clone();
            if !b.is_empty() {
                let at = at.index(b.len());
                b[at] ^= change;
            }
            // SAFETY: `b` is as long as `a`.
            let found = unsafe { compare(a.as_ptr(), b.as_ptr(), a.len()) };
            prop_assert_eq!(found.cmp(&0), a.cmp(&b));
        }
    }

    #[test]
    fn long_areas_are_copied_both_ways() {
        let len = STRING_COPY_MAX + 100;
        for distance in [1, 100] {
            let mut found = bytes(len + distance);
            let expect = found.clone();
            let base = found.as_mut_ptr();
            // SAFETY: both areas are of one vector.
            unsafe { copy(base.wrapping_add(distance), base, len) };
            assert!(found[distance..] == expect[..len], "up {distance}");
            let base = found.as_mut_ptr();
            // SAFETY: as above.
            unsafe { copy(base, base.wrapping_add(distance), len) };
            assert!(found[..len] == expect[..len], "down {distance}");
        }
    }

    #[test]
    fn the_c_functions_return_their_destination() {
        let mut to = [0_u8; 4];
        let from = [1_u8, 2, 3, 4];
        let pointer = to.as_mut_ptr().cast::<c_void>();
        // SAFETY: all areas lie in the two arrays.
        unsafe {
            assert_eq!(memcpy(pointer, from.as_ptr().cast(), 4), pointer);
            assert_eq!(pointer.cast::<[u8; 4]>().read(), from);
            assert_eq!(memset(pointer, 0x107, 3), pointer);
            assert_eq!(pointer.cast::<[u8; 4]>().read(), [7, 7, 7, 4]);
            assert_eq!(memmove(pointer.byte_add(1), pointer, 3), pointer.byte_add(1));
        }
        assert_eq!(to, [7; 4]);
    }
}
