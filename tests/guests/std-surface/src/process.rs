//! What a program may ask about its process and machine.
use crate::{Check, assert_fails};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::mem::zeroed;
use std::ptr::null;

pub(crate) const CHECKS: &[Check] = &[
    ("signals", signals),
    ("sysconf", sysconf),
    ("getauxval", getauxval),
    ("errors have texts", error_texts),
    ("stack protector", stack_protector),
    ("no backtrace", backtrace),
    ("cpu features", cpu_features),
];

fn signals() {
    // SAFETY: all pointers are to variables here, or null where C allows it.
    unsafe {
        assert_eq!(libc::signal(libc::SIGPIPE, libc::SIG_IGN), libc::SIG_IGN);
        assert_eq!(libc::signal(libc::SIGPIPE, libc::SIG_DFL), libc::SIG_ERR);
        let mut action: libc::sigaction = zeroed();
        assert_fails(
            libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut action),
            libc::ENOSYS,
        );
        assert_eq!(libc::sigaction(libc::SIGSEGV, null(), &raw mut action), 0);
        assert_eq!(action.sa_sigaction, libc::SIG_IGN);
    }
}

fn sysconf() {
    // SAFETY: there is no memory involved.
    unsafe {
        assert_eq!(libc::sysconf(libc::_SC_PAGESIZE), 4096);
        assert_eq!(libc::sysconf(libc::_SC_NPROCESSORS_ONLN), 1);
        assert_fails(libc::sysconf(libc::_SC_OPEN_MAX), libc::EINVAL);
    }
}

fn getauxval() {
    // SAFETY: there is no memory involved.
    assert_eq!(unsafe { libc::getauxval(libc::AT_HWCAP) }, 0);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOENT));
}

fn error_texts() {
    let text = std::io::Error::from_raw_os_error(libc::ENOSYS).to_string();
    assert_eq!(text, "Function not available in a guest (os error 38)");
}

/// Compilers put the canary of a function's frame at `fs:0x28`, and the thread pointer at `fs:0`.
fn stack_protector() {
    let (pointer, canary): (u64, u64);
    // SAFETY: two loads, of what the ABI promises there.
    unsafe {
        std::arch::asm!("mov {}, fs:[0]", "mov {}, fs:[0x28]", out(reg) pointer, out(reg) canary);
    }
    assert!(pointer.is_multiple_of(8) && pointer != 0);
    assert!(canary != 0 && canary.to_le_bytes()[0] == 0, "{canary:#x}");
}

/// The host makes backtraces.
fn backtrace() {
    assert_eq!(Backtrace::force_capture().status(), BacktraceStatus::Unsupported);
}

fn cpu_features() {
    assert!(is_x86_feature_detected!("sse2"));
}
