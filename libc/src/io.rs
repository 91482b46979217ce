//! File descriptors: 0 is always at its end, 1 and 2 are the console, and there are no others.
use crate::errno::{EBADF, EINVAL, ENOSYS, fail};
use core::ffi::{c_int, c_short, c_ulong, c_void};
use paravane_kernel::console;

const STDIN: c_int = 0;
const STDOUT: c_int = 1;
const STDERR: c_int = 2;

/// `struct iovec`.
#[repr(C)]
struct IoVec {
    base: *const u8,
    len: usize,
}

/// `struct pollfd`.
#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

const POLLIN: c_short = 0x1;
const POLLOUT: c_short = 0x4;
const POLLNVAL: c_short = 0x20;

/// Most entries of a `writev`: `IOV_MAX`.
const IOV_MAX: c_int = 1024;

fn is_console(fd: c_int) -> bool {
    fd == STDOUT || fd == STDERR
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn write(fd: c_int, from: *const c_void, len: usize) -> isize {
    if !is_console(fd) {
        return fail(EBADF) as isize;
    }
    if len > 0 {
        // SAFETY: by the caller, as C has it.
        console::write(unsafe { core::slice::from_raw_parts(from.cast(), len) });
    }
    if fd == STDERR {
        // Last words before a crash must not be lost.
        console::flush();
    }
    len.cast_signed()
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn writev(fd: c_int, parts: *const IoVec, count: c_int) -> isize {
    if !(0..=IOV_MAX).contains(&count) {
        return fail(EINVAL) as isize;
    }
    let mut written = 0;
    for i in 0..count {
        // SAFETY: by the caller, as C has it, there are `count` parts, each readable.
        let taken = unsafe {
            let part = &*parts.add(i.unsigned_abs() as usize);
            write(fd, part.base.cast(), part.len)
        };
        if taken < 0 {
            return taken;
        }
        written += taken;
    }
    written
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn read(fd: c_int, _to: *mut c_void, _len: usize) -> isize {
    if fd == STDIN { 0 } else { fail(EBADF) as isize }
}

/// Says at once what each descriptor is ready for, which never changes, so that there is no sense in
/// waiting for the timeout.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn poll(fds: *mut PollFd, count: c_ulong, _timeout_ms: c_int) -> c_int {
    let mut ready = 0;
    for i in 0..count {
        #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits")]
        // SAFETY: by the caller, as C has it, there are `count` entries.
        let entry = unsafe { &mut *fds.add(i as usize) };
        entry.revents = match entry.fd {
            STDIN => entry.events & POLLIN,
            STDOUT | STDERR => entry.events & POLLOUT,
            ..0 => 0,
            _ => POLLNVAL,
        };
        ready += c_int::from(entry.revents != 0);
    }
    ready
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn close(fd: c_int) -> c_int {
    fail(if (STDIN..=STDERR).contains(&fd) { ENOSYS } else { EBADF })
}
