//! What std refers to and a guest has not, in one place: every call here fails.
use crate::errno::{ENOSYS, fail};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;

/// Functions that report failure by -1 (`mmap` by `MAP_FAILED`, which is the same) and `errno`.
macro_rules! minus_one {
    ($($name:ident)*) => {
        $(
            #[cfg_attr(not(test), unsafe(no_mangle))]
            extern "C" fn $name() -> isize {
                fail(ENOSYS) as isize
            }
        )*
    };
}

/// Functions that report failure by a null pointer and `errno`.
macro_rules! null_pointer {
    ($($name:ident)*) => {
        $(
            #[cfg_attr(not(test), unsafe(no_mangle))]
            extern "C" fn $name() -> *mut c_void {
                fail(ENOSYS);
                null_mut()
            }
        )*
    };
}

// Files: std's backtraces look for the program and its debug information.
minus_one! { open64 stat64 fstat64 lseek64 readlink dup fcntl }
null_pointer! { getcwd realpath }

// Memory: std maps files and guard pages.
minus_one! { mmap64 munmap mprotect }

// Sockets: the network is the kernel's.
minus_one! { socket connect __res_init }

// Signals and scheduling.
minus_one! { sigaltstack sched_getaffinity pause }

/// `EAI_FAIL`.
const EAI_FAIL: c_int = -4;

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn getaddrinfo() -> c_int {
    EAI_FAIL
}

/// There is never anything to free.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn freeaddrinfo() {}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn gai_strerror(_error: c_int) -> *const c_char {
    c"Name resolution is the kernel's in a guest".as_ptr()
}

/// No symbol can be looked up at run time.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn dlsym() -> *mut c_void {
    null_mut()
}

/// There are no shared objects to iterate over.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn dl_iterate_phdr() -> c_int {
    0
}

/// A version without any of the features that std looks at versions for.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn gnu_get_libc_version() -> *const c_char {
    const VERSION: &CStr = c"0.0";
    VERSION.as_ptr()
}
