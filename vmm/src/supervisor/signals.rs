//! Signals to the supervisor, as a descriptor.
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::io;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGINT, SIGTERM or SIGHUP: end.
    Stop,
}

/// Signals that ask the supervisor to end.
const STOP_SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The signals that reached the supervisor.
#[derive(Debug)]
pub(super) struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals and opens the descriptor that they are read from.
    pub(super) fn new() -> io::Result<Self> {
        let set = signal_set();
        // SAFETY: the set is initialised; no old set is asked for.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
        // SAFETY: -1 asks for a new descriptor.
        let fd = check(unsafe {
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        })?;
        // SAFETY: the descriptor was just made, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal, if one has come.
    pub(super) fn take(&self) -> Option<Request> {
        let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(count) if count == bytes.len() => Some(Request::Stop),
            _ => None,
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// In the domain process: undoes [`Signals::new`], and ignores what is meant for the supervisor. A
/// terminal sends Ctrl-C to both.
pub(super) fn leave_to_supervisor() -> io::Result<()> {
    for signal in STOP_SIGNALS.into_iter().chain([libc::SIGQUIT, libc::SIGPIPE]) {
        // SAFETY: SIG_IGN is a valid disposition of each of these.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    let set = signal_set();
    // SAFETY: as in `Signals::new`.
    check(unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) })?;
    Ok(())
}

/// Runs `start` with all signals blocked: threads that it starts never take a signal, all of which are
/// meant for the thread that runs the guest.
pub(super) fn without_signals<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut all = std::mem::MaybeUninit::uninit();
    let mut old = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises its argument.
    check(unsafe { libc::sigfillset(all.as_mut_ptr()) })?;
    // SAFETY: the first set is initialised, the second one is filled in.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) })?;
    let started = start();
    // SAFETY: filled in above.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) })?;
    started
}

fn signal_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set, and the signals are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in STOP_SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
