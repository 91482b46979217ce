//! NUL-terminated strings, and the search for a byte in memory.
use crate::vector::{load1, load16};
use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi8};
use core::ffi::{c_char, c_int, c_void};
use core::ptr::null_mut;

/// Offset of the first byte at `text` for which `ends` holds; it has to hold for NUL.
///
/// # Safety
/// The bytes at `text` up to the first NUL are readable.
#[inline(always)]
unsafe fn find(text: *const c_char, ends: impl Fn(u8) -> bool) -> usize {
    let text = text.cast::<u8>();
    let mut len = 0;
    // SAFETY: by the caller, all bytes up to the terminating NUL are readable, and NUL ends the loop.
    while !ends(unsafe { load1(text.wrapping_add(len)) }) {
        len += 1;
    }
    len
}

/// Whether `byte` is in the string `set`.
///
/// # Safety
/// The bytes at `set` up to the first NUL are readable.
#[inline(always)]
unsafe fn contains(set: *const c_char, byte: u8) -> bool {
    // SAFETY: by the caller; the offset is at most that of the NUL.
    unsafe {
        let at = find(set, |other| other == byte || other == 0);
        load1(set.cast::<u8>().wrapping_add(at)) == byte && byte != 0
    }
}

/// The byte that C passes as an `int`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "C: converted to char")]
fn as_byte(value: c_int) -> u8 {
    value as u8
}

/// Bytes that are looked at together.
const VECTOR: usize = 16;

/// Which of the bytes from `at` on, rounded down to a multiple of [`VECTOR`], are `wanted`: a bit for each.
///
/// # Safety
/// The byte at `at` is readable: then all of the vector are, as it lies in one page.
#[inline(always)]
unsafe fn matches(at: *const u8, wanted: u8) -> u32 {
    let start = at.wrapping_sub(at.addr() % VECTOR);
    // SAFETY: by the caller; every x86-64 has SSE2.
    let mask = unsafe {
        _mm_movemask_epi8(_mm_cmpeq_epi8(load16(start), _mm_set1_epi8(wanted.cast_signed())))
    };
    mask.cast_unsigned()
}

/// Offset of the first byte `wanted` below `len`, or something from `len` on.
///
/// # Safety
/// The bytes at `area` up to the first `wanted`, or below `len`, are readable.
unsafe fn find_byte(area: *const u8, wanted: u8, len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    let skip = area.addr() % VECTOR;
    // SAFETY: the first byte is readable.
    let first = unsafe { matches(area, wanted) } >> skip;
    if first != 0 {
        return first.trailing_zeros() as usize;
    }
    let mut offset = VECTOR - skip;
    while offset < len {
        // SAFETY: below `len`, and `wanted` did not come before.
        let found = unsafe { matches(area.wrapping_add(offset), wanted) };
        if found != 0 {
            return offset + found.trailing_zeros() as usize;
        }
        offset += VECTOR;
    }
    len
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    // SAFETY: by the caller, as C has it.
    unsafe { find_byte(text.cast(), 0, usize::MAX) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strchr(text: *const c_char, value: c_int) -> *mut c_char {
    let wanted = as_byte(value);
    // SAFETY: by the caller, as C has it; the offset is at most that of the NUL.
    unsafe {
        let place = text.wrapping_add(find(text, |byte| byte == wanted || byte == 0));
        if load1(place.cast()) == wanted { place.cast_mut() } else { null_mut() }
    }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strrchr(text: *const c_char, value: c_int) -> *mut c_char {
    let wanted = as_byte(value);
    // SAFETY: by the caller, as C has it.
    let mut rest = unsafe { strlen(text) } + 1;
    while rest > 0 {
        rest -= 1;
        let place = text.wrapping_add(rest);
        // SAFETY: at most the offset of the NUL.
        if unsafe { load1(place.cast()) } == wanted {
            return place.cast_mut();
        }
    }
    null_mut()
}

/// The difference of the first bytes that differ, of at most `len` and none behind a NUL.
///
/// # Safety
/// The bytes of both up to the first NUL or `len` are readable.
unsafe fn compare_strings(a: *const c_char, b: *const c_char, len: usize) -> c_int {
    let (a, b) = (a.cast::<u8>(), b.cast::<u8>());
    for offset in 0..len {
        // SAFETY: no NUL came before, and the offset is below `len`.
        let (a, b) = unsafe { (load1(a.wrapping_add(offset)), load1(b.wrapping_add(offset))) };
        if a != b || a == 0 {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strcmp(a: *const c_char, b: *const c_char) -> c_int {
    // SAFETY: by the caller, as C has it.
    unsafe { compare_strings(a, b, usize::MAX) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strncmp(a: *const c_char, b: *const c_char, len: usize) -> c_int {
    // SAFETY: by the caller, as C has it.
    unsafe { compare_strings(a, b, len) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strspn(text: *const c_char, accept: *const c_char) -> usize {
    // SAFETY: by the caller, as C has it; NUL is in no set.
    unsafe { find(text, |byte| !contains(accept, byte)) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strcspn(text: *const c_char, reject: *const c_char) -> usize {
    // SAFETY: by the caller, as C has it.
    unsafe { find(text, |byte| byte == 0 || contains(reject, byte)) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memchr(area: *const c_void, value: c_int, len: usize) -> *mut c_void {
    // SAFETY: by the caller, `len` bytes are readable, or those up to the one looked for.
    let offset = unsafe { find_byte(area.cast(), as_byte(value), len) };
    if offset < len { area.wrapping_byte_add(offset).cast_mut() } else { null_mut() }
}

/// Sorts by the heap: in place, in n log n steps, and whatever the comparison says.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn qsort(
    base: *mut c_void,
    count: usize,
    size: usize,
    order: unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
) {
    let heap = Heap { base: base.cast(), size, order };
    // SAFETY: by the caller, as C has it; all indices are below `count`.
    unsafe {
        for root in (0..count / 2).rev() {
            heap.sift_down(root, count);
        }
        for end in (1..count).rev() {
            heap.swap(0, end);
            heap.sift_down(0, end);
        }
    }
}

/// An array of `qsort`.
struct Heap {
    base: *mut u8,
    size: usize,
    order: unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
}

impl Heap {
    fn at(&self, index: usize) -> *mut u8 {
        self.base.wrapping_add(index * self.size)
    }

    /// # Safety
    /// Both indices are of the array.
    unsafe fn is_less(&self, a: usize, b: usize) -> bool {
        // SAFETY: by the caller, and by that of `qsort`.
        unsafe { (self.order)(self.at(a).cast(), self.at(b).cast()) < 0 }
    }

    /// # Safety
    /// Both indices are of the array, and not the same.
    unsafe fn swap(&self, a: usize, b: usize) {
        // SAFETY: by the caller; different elements do not overlap.
        unsafe { core::ptr::swap_nonoverlapping(self.at(a), self.at(b), self.size) }
    }

    /// Makes a heap of the elements from `root` below `count`, where those below `root` are heaps.
    ///
    /// # Safety
    /// `count` is at most that of the array.
    unsafe fn sift_down(&self, mut root: usize, count: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= count {
                return;
            }
            // SAFETY: both are below `count`, as just seen.
            unsafe {
                child += usize::from(child + 1 < count && self.is_less(child, child + 1));
                if !self.is_less(root, child) {
                    return;
                }
                self.swap(root, child);
            }
            root = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::compare;
    use proptest::prelude::*;
    use std::ffi::{CStr, CString};
    use std::vec::Vec;

    #[test]
    fn bytes_are_found_at_every_distance_and_alignment() {
        let mut area = [1_u8; 80];
        for (start, at) in (0..17).flat_map(|start| (start..80).map(move |at| (start, at))) {
            area[at] = 0;
            for len in [0, at - start, at - start + 1, 80 - start] {
                // SAFETY: inside of the array.
                let found = unsafe { memchr(area[start..].as_ptr().cast(), 0, len) };
                let expect = if len > at - start { area[at..].as_ptr().addr() } else { 0 };
                assert_eq!(found.addr(), expect);
            }
            // SAFETY: there is a NUL.
            assert_eq!(unsafe { strlen(area[start..].as_ptr().cast()) }, at - start);
            area[at] = 1;
        }
    }

    #[test]
    fn strlen_counts_to_the_first_nul() {
        let check = |text: &[u8], expect| {
            // SAFETY: every text below has a NUL.
            assert_eq!(unsafe { strlen(text.as_ptr().cast()) }, expect);
        };
        check(b"\0", 0);
        check(b"abc\0def\0", 3);
        check(b"\xff\x80\0", 2);
    }

    /// What strings are made of here: few bytes, so that they meet.
    fn text() -> impl Strategy<Value = CString> {
        let bytes =
            proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff_u8)], 0..6);
        bytes.prop_map(|bytes| CString::new(bytes).unwrap())
    }

    fn offset(text: &CStr, place: *const c_char) -> Option<usize> {
        (!place.is_null()).then(|| place.addr() - text.as_ptr().addr())
    }

    proptest! {
        #[test]
        fn bytes_are_found_from_either_end(text in text(), wanted in prop_oneof![Just(b'a'), Just(0xff), Just(0)]) {
            let value = c_int::from(wanted.cast_signed());
            let bytes = text.to_bytes_with_nul();
            let (first, last) = (bytes.iter().position(|&b| b == wanted), bytes.iter().rposition(|&b| b == wanted));
            // SAFETY: a string with its NUL.
            let (found, rfound, in_area) = unsafe {
                let pointer = text.as_ptr();
                (strchr(pointer, value), strrchr(pointer, value), memchr(pointer.cast(), value, bytes.len() - 1))
            };
            prop_assert_eq!(offset(&text, found), first);
            prop_assert_eq!(offset(&text, rfound), last);
            let expect = bytes[..bytes.len() - 1].iter().position(|&b| b == wanted);
            prop_assert_eq!(offset(&text, in_area.cast()), expect);
        }

        #[test]
        fn strings_are_compared_as_slices_are(a in text(), b in text(), len in 0..8_usize) {
            let prefix = |text: &CString| text.to_bytes().iter().copied().take(len).collect::<Vec<_>>();
            // SAFETY: strings with their NUL.
            let (all, some) = unsafe { (strcmp(a.as_ptr(), b.as_ptr()), strncmp(a.as_ptr(), b.as_ptr(), len)) };
            prop_assert_eq!(all.cmp(&0), a.to_bytes().cmp(b.to_bytes()));
            prop_assert_eq!(some.cmp(&0), prefix(&a).cmp(&prefix(&b)));
        }

        #[test]
        fn spans_end_at_the_first_other_byte(text in text(), set in text()) {
            let bytes = text.to_bytes();
            let is_in = |byte: &u8| set.to_bytes().contains(byte);
            // SAFETY: strings with their NUL.
            let (inside, outside) = unsafe { (strspn(text.as_ptr(), set.as_ptr()), strcspn(text.as_ptr(), set.as_ptr())) };
            prop_assert_eq!(inside, bytes.iter().position(|b| !is_in(b)).unwrap_or(bytes.len()));
            prop_assert_eq!(outside, bytes.iter().position(is_in).unwrap_or(bytes.len()));
        }

        #[test]
        fn qsort_sorts(mut values: Vec<[u8; 3]>) {
            unsafe extern "C" fn order(a: *const c_void, b: *const c_void) -> c_int {
                // SAFETY: elements of the array.
                unsafe { compare(a.cast(), b.cast(), 3) }
            }
            let mut expect = values.clone();
            expect.sort_unstable();
            // SAFETY: an array of that many elements of three bytes.
            unsafe { qsort(values.as_mut_ptr().cast(), values.len(), 3, order) };
            prop_assert_eq!(values, expect);
        }
    }
}
