//! The process as C sees it: its end, its environment, its signals, and what it may ask about the
//! machine.
use crate::errno::{EINVAL, ENOENT, ENOSYS, fail};
use crate::thread;
use core::ffi::{c_char, c_int, c_long, c_ulong};
use core::ptr::null_mut;
use paravane_abi::layout::PAGE_SIZE;

/// Ends the guest with the low byte of `status`, as C does.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) extern "C" fn exit(status: c_int) -> ! {
    thread::run_destructors();
    let [status, ..] = status.to_le_bytes();
    paravane_kernel::exit(status)
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn abort() -> ! {
    paravane_kernel::panic::report("abort() was called")
}

/// There are no environment variables.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    null_mut()
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn getauxval(_kind: c_ulong) -> c_ulong {
    fail(ENOENT);
    0
}

/// `_SC_PAGESIZE`.
const SC_PAGESIZE: c_int = 30;
/// `_SC_NPROCESSORS_CONF`.
const SC_NPROCESSORS_CONF: c_int = 83;
/// `_SC_NPROCESSORS_ONLN`.
const SC_NPROCESSORS_ONLN: c_int = 84;

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn sysconf(name: c_int) -> c_long {
    match name {
        SC_PAGESIZE => PAGE_SIZE.cast_signed(),
        SC_NPROCESSORS_CONF | SC_NPROCESSORS_ONLN => 1,
        _ => c_long::from(fail(EINVAL)),
    }
}

/// `SIG_IGN`: the disposition of every signal, as none is ever delivered.
const SIG_IGN: usize = 1;
/// `SIG_ERR`.
const SIG_ERR: usize = usize::MAX;

/// `struct sigaction`.
#[repr(C)]
struct SigAction {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

const _: () = assert!(size_of::<SigAction>() == 152);

/// Signals stay ignored; to install anything else fails.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn signal(_number: c_int, handler: usize) -> usize {
    if handler == SIG_IGN {
        return SIG_IGN;
    }
    fail(ENOSYS);
    SIG_ERR
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sigaction(
    _number: c_int,
    new: *const SigAction,
    old: *mut SigAction,
) -> c_int {
    // SAFETY: by the caller, as C has it.
    if unsafe { new.as_ref() }.is_some_and(|new| new.handler != SIG_IGN) {
        return fail(ENOSYS);
    }
    if !old.is_null() {
        let ignored = SigAction { handler: SIG_IGN, mask: [0; 16], flags: 0, restorer: 0 };
        // SAFETY: by the caller, as C has it.
        unsafe { old.write(ignored) };
    }
    0
}
