//! What a confined process can and cannot do, tried in processes of their own.
use super::*;

/// The wait status of a child that confines itself like a domain process and then acts.
fn outcome(action: fn()) -> i32 {
    // SAFETY: the child calls nothing that another thread's lock could block, but for the allocator,
    // which the C library keeps usable across `fork`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let confined = confine_domain(&[]).is_ok();
        if confined {
            action();
        }
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if confined { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the child was just made; the status is written to a local.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    status
}

#[test]
fn a_supervisor_that_its_filter_stops_says_so() {
    // SAFETY: as in `outcome`; `swapon` with no path is refused even without a filter.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let confined = confine_supervisor().is_ok();
        // SAFETY: see above; ends the child at once.
        unsafe {
            libc::syscall(libc::SYS_swapon, 0, 0);
            libc::_exit(if confined { 0 } else { 1 });
        }
    }
    let mut status = 0;
    // SAFETY: as in `outcome`.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert!(waited == pid && libc::WIFEXITED(status), "status {status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), INTERNAL);
}

fn is_killed_by_filter(action: fn()) {
    let status = outcome(action);
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    assert_eq!(signal, Some(libc::SIGSYS), "status {status:#x}");
}

#[test]
fn what_a_domain_needs_is_allowed() {
    let status = outcome(|| {
        let kept = std::hint::black_box(vec![1_u8; 1 << 20]);
        // SAFETY: the buffer is valid; descriptor -1 is not, which is an error and no crime.
        unsafe { libc::write(-1, kept.as_ptr().cast(), kept.len()) };
    });
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
}

#[test]
fn what_a_domain_does_not_need_kills_it() {
    // SAFETY: valid arguments, in a process that the call is meant to end.
    is_killed_by_filter(|| unsafe {
        libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY);
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        libc::kill(libc::getppid(), 0);
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        libc::syscall(libc::SYS_tgkill, 1, 1, 0);
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0);
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        libc::execve(c"/bin/true".as_ptr(), std::ptr::null(), std::ptr::null());
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        libc::fork();
    });
    // SAFETY: see above.
    is_killed_by_filter(|| unsafe {
        libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr());
    });
}
