//! Strings and sorting, as C libraries call them.
use crate::Check;
use std::cmp::Ordering;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::hint::black_box;

pub(crate) const CHECKS: &[Check] = &[
    ("strlen", strlen),
    ("strchr, strrchr, memchr", search),
    ("strcmp, strncmp", order),
    ("strspn, strcspn", spans),
    ("qsort", qsort),
];

const TEXT: &CStr = c"seventeen letters";

#[expect(clippy::strlen_on_c_strings, reason = "this is the function to check")]
fn strlen() {
    let check = |text: &CStr, expect| {
        // SAFETY: the string has its NUL.
        assert_eq!(unsafe { libc::strlen(black_box(text).as_ptr()) }, expect);
    };
    check(c"", 0);
    check(TEXT, 17);
}

fn search() {
    let text = black_box(TEXT).as_ptr();
    let offset = |place: *mut c_char| (!place.is_null()).then(|| place.addr() - text.addr());
    let [e, q] = [b'e', b'q'].map(c_int::from);
    // SAFETY: a string with its NUL, of 17 bytes.
    unsafe {
        assert_eq!(offset(libc::strchr(text, e)), Some(1));
        assert_eq!(offset(libc::strrchr(text, e)), Some(14));
        assert_eq!(offset(libc::memchr(text.cast(), e, 17).cast()), Some(1));
        assert_eq!([libc::strchr(text, q), libc::strrchr(text, q)].map(offset), [None; 2]);
        assert!(libc::memchr(text.cast(), e, 1).is_null());
    }
}

fn order() {
    let check = |a: &CStr, b: &CStr, len, all: Ordering, some: Ordering| {
        let (a, b) = (black_box(a).as_ptr(), black_box(b).as_ptr());
        // SAFETY: strings with their NUL.
        let found = unsafe { [libc::strcmp(a, b), libc::strncmp(a, b, len)] };
        assert_eq!(found.map(|value| value.cmp(&0)), [all, some]);
    };
    check(c"abc", c"abd", 2, Ordering::Less, Ordering::Equal);
    check(c"ab\xff", c"ab", 9, Ordering::Greater, Ordering::Greater);
    check(c"", c"", 1, Ordering::Equal, Ordering::Equal);
}

fn spans() {
    let text = black_box(TEXT).as_ptr();
    // SAFETY: strings with their NUL.
    let found =
        unsafe { [libc::strspn(text, c"evs".as_ptr()), libc::strcspn(text, c"tn".as_ptr())] };
    assert_eq!(found, [4, 4]);
}

fn qsort() {
    unsafe extern "C" fn order(a: *const c_void, b: *const c_void) -> c_int {
        // SAFETY: elements of the array below.
        let [a, b] = [a, b].map(|element| unsafe { *element.cast::<u32>() });
        a.cmp(&b) as c_int
    }
    let mut values: Vec<u32> = (0..1000_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let mut expect = values.clone();
    expect.sort_unstable();
    // SAFETY: an array of that many elements of four bytes.
    unsafe { libc::qsort(values.as_mut_ptr().cast(), values.len(), 4, Some(order)) };
    assert_eq!(values, expect);
}
