//! The unwinder's interface (Itanium C++ ABI), without an unwinder: a panic ends the guest at once,
//! and the host makes the backtrace.
use core::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Walks no frames.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn _Unwind_Backtrace(_visit: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Functions that only an unwinder at work makes callers call.
macro_rules! never_called {
    ($($name:ident)*) => {
        $(
            #[cfg_attr(not(test), unsafe(no_mangle))]
            extern "C" fn $name() -> ! {
                paravane_kernel::panic::report(concat!(stringify!($name), " was called, but nothing unwinds in an image"))
            }
        )*
    };
}

never_called! {
    _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}
