//! `errno` and the error numbers in use here (as in Linux' `asm-generic/errno.h`).
use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicI32, Ordering};

/// There is no such thing.
pub(crate) const ENOENT: c_int = 2;
/// There is no such thread.
pub(crate) const ESRCH: c_int = 3;
/// The descriptor is not open, or not for this.
pub(crate) const EBADF: c_int = 9;
/// Not now, or no more of these.
pub(crate) const EAGAIN: c_int = 11;
/// Out of memory.
pub(crate) const ENOMEM: c_int = 12;
/// An argument makes no sense.
pub(crate) const EINVAL: c_int = 22;
/// The result does not fit.
pub(crate) const ERANGE: c_int = 34;
/// A guest has no such function.
pub(crate) const ENOSYS: c_int = 38;
/// The time is up.
pub(crate) const ETIMEDOUT: c_int = 110;

/// One for all fibers: none is suspended between a call that fails and its caller's look at the error.
static ERRNO: AtomicI32 = AtomicI32::new(0);

/// Sets `errno` and returns -1, as most of C reports an error.
pub(crate) fn fail(error: c_int) -> c_int {
    ERRNO.store(error, Ordering::Relaxed);
    -1
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn __errno_location() -> *mut c_int {
    ERRNO.as_ptr()
}

fn describe(error: c_int) -> &'static CStr {
    match error {
        0 => c"Success",
        ENOENT => c"No such file or directory",
        ESRCH => c"No such thread",
        EBADF => c"Bad file descriptor",
        EAGAIN => c"Resource temporarily unavailable",
        ENOMEM => c"Out of memory",
        EINVAL => c"Invalid argument",
        ERANGE => c"Result out of range",
        ENOSYS => c"Function not available in a guest",
        ETIMEDOUT => c"Timed out",
        _ => c"Unknown error",
    }
}

/// POSIX `strerror_r`, under the name that std calls it by.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __xpg_strerror_r(error: c_int, buffer: *mut c_char, len: usize) -> c_int {
    let text = describe(error).to_bytes_with_nul();
    if text.len() > len {
        return ERANGE;
    }
    // SAFETY: the caller lends `len` bytes at `buffer`, and the text is not longer.
    unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::ToOwned;

    #[test]
    fn a_failure_sets_errno() {
        assert_eq!(fail(EBADF), -1);
        // SAFETY: the pointer is that of a static.
        assert_eq!(unsafe { *__errno_location() }, EBADF);
    }

    #[test]
    fn errors_are_described_if_there_is_room() {
        let mut buffer = [0_u8; 16];
        let mut strerror = |error, len| {
            // SAFETY: `len` is at most the buffer's length in all calls below.
            let status = unsafe { __xpg_strerror_r(error, buffer.as_mut_ptr().cast(), len) };
            (status, CStr::from_bytes_until_nul(&buffer).unwrap().to_owned())
        };
        assert_eq!(strerror(ETIMEDOUT, 10), (0, c"Timed out".to_owned()));
        assert_eq!(strerror(EINVAL, 16), (ERANGE, c"Timed out".to_owned()));
        assert_eq!(strerror(12345, 14), (0, c"Unknown error".to_owned()));
    }
}
