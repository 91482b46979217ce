//! Which system calls are allowed.
use libc::c_long;

/// Allows a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub(super) number: u32,
    /// What an argument must be, if that matters.
    pub(super) test: Option<Test>,
}

impl Rule {
    /// Allows a system call whatever its arguments are.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the filter sees 32 bits of the number")]
    pub const fn call(number: c_long) -> Self {
        Self { number: number.cast_unsigned() as u32, test: None }
    }

    /// Allows ioctl(2) with this request.
    #[must_use]
    pub const fn ioctl(request: u32) -> Self {
        Self { test: Some(Test::is(1, request)), ..Self::call(libc::SYS_ioctl) }
    }
}

/// A test of the low 32 bits of an argument: those in `mask` are `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) argument: u32,
    pub(super) mask: u32,
    pub(super) value: u32,
}

/// What devices, console, clock and the `RELEASE` hypercall do, most frequent first.
const DOMAIN: [c_long; 22] = [
    libc::SYS_writev,
    libc::SYS_readv,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_futex,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit_group,
    libc::SYS_rt_sigprocmask,
    libc::SYS_gettid,
    libc::SYS_getpid,
];

/// What the C library does when a thread starts: a device's may still be at it.
const THREAD_START: [c_long; 4] =
    [libc::SYS_rseq, libc::SYS_set_robust_list, libc::SYS_sigaltstack, libc::SYS_sched_getaffinity];

/// What the allocator of the host does. It never needs executable memory.
const MEMORY: [c_long; 3] = [libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap];

/// What the supervisor does beyond a domain: threads, sockets, the domain process, and reading the
/// image's symbols and the resolver's configuration.
const SUPERVISOR: [c_long; 43] = [
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_create1,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_accept4,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_sched_yield,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_prlimit64,
    libc::SYS_pidfd_send_signal,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_readlink,
    libc::SYS_getcwd,
    libc::SYS_clock_nanosleep,
];

/// What a domain process may do, and the backend's `more`.
pub(super) fn domain(more: &[Rule]) -> Vec<Rule> {
    // Narrows the offloads that a TAP hands to the guest, when the guest attaches its network device.
    let tap = Rule::ioctl(low_half(libc::TUNSETOFFLOAD));
    let set_name = Rule {
        test: Some(Test::is(0, libc::PR_SET_NAME.cast_unsigned())),
        ..Rule::call(libc::SYS_prctl)
    };
    let calls = DOMAIN.iter().chain(&THREAD_START).chain(&MEMORY).copied().map(Rule::call);
    // The backend's first: its calls are the most frequent.
    let calls = more.iter().copied().chain(calls);
    calls.chain(mappings()).chain([tap, set_name, abort()]).collect()
}

/// What the supervisor may do.
pub(super) fn supervisor() -> Vec<Rule> {
    let calls = DOMAIN.iter().chain(&THREAD_START).chain(&MEMORY).chain(&SUPERVISOR);
    let calls = calls.copied().map(Rule::call);
    let returns = Rule::call(libc::SYS_rt_sigreturn);
    calls.chain(mappings()).chain([returns, abort()]).collect()
}

/// Mapping memory, but none that is executable.
fn mappings() -> impl Iterator<Item = Rule> {
    let test = Some(Test::none_of(2, libc::PROT_EXEC.cast_unsigned()));
    [libc::SYS_mmap, libc::SYS_mprotect].into_iter().map(move |n| Rule { test, ..Rule::call(n) })
}

/// A panic of the VMM sends SIGABRT to its own process.
fn abort() -> Rule {
    let own = std::process::id();
    Rule { test: Some(Test::is(0, own)), ..Rule::call(libc::SYS_tgkill) }
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}
