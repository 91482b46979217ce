//! NUL-terminated strings.
use crate::vector::load1;
use core::ffi::c_char;

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    let text = text.cast::<u8>();
    let mut len = 0;
    // SAFETY: by the caller, the bytes up to the terminating NUL are readable.
    while unsafe { load1(text.wrapping_add(len)) } != 0 {
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
