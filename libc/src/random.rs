//! Random bytes.
use core::ffi::{c_uint, c_void};

/// Fills the buffer from the kernel's generator, altogether, whatever the flags say.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn getrandom(to: *mut c_void, len: usize, _flags: c_uint) -> isize {
    if len > 0 {
        // SAFETY: by the caller, as C has it.
        let buffer = unsafe { core::slice::from_raw_parts_mut(to.cast::<u8>(), len) };
        paravane_kernel::entropy::fill(buffer);
    }
    len.cast_signed()
}
