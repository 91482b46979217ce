//! The domain process, from the fork to the guest's end.
use super::signals;
use crate::backend::{Backend, ENDED};
use crate::domain::clock::Sample;
use crate::domain::{Plan, Ties};
use crate::jail;
use paravane_host::ending::{Cause, Ending, Registers};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};

/// All that the domain process takes along.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) plan: Plan,
    pub(super) backend: Box<dyn Backend>,
    pub(super) ties: Ties,
    pub(super) early: Sample,
}

impl Child {
    /// Forks the domain process.
    pub(super) fn fork(self) -> io::Result<Pid> {
        let supervisor = getpid();
        // SAFETY: this process has only one thread, so that the child may do anything.
        match unsafe { libc::fork() } {
            0 => self.main(supervisor),
            pid => Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(io::Error::last_os_error),
        }
    }

    fn main(self, supervisor: Pid) -> ! {
        let black_box = self.ties.black_box;
        if let Err(text) = self.run(supervisor) {
            let ending = Ending::crash(Cause::Host { text }, Registers::default());
            black_box.record(&ending, &[]);
        }
        // SAFETY: `_exit` ends the process at once: nothing of the supervisor's that was forked
        // along, such as buffered output, happens twice.
        unsafe { libc::_exit(ENDED) }
    }

    /// Builds the domain, drops every privilege, and runs the guest to its end. An error says why
    /// the guest did not start.
    fn run(mut self, supervisor: Pid) -> Result<(), String> {
        let text = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        die_with(supervisor).map_err(text("the domain process cannot follow its supervisor"))?;
        signals::leave_to_supervisor().map_err(text("signals cannot be set up"))?;
        let mut kept = self.plan.descriptors();
        kept.extend(self.backend.descriptors());
        kept.extend([libc::STDOUT_FILENO, libc::STDERR_FILENO]);
        kept.extend([self.ties.stop.as_raw_fd(), self.ties.doorbell.as_raw_fd()]);
        close_all_but(kept).map_err(text("descriptors cannot be closed"))?;
        let built = self.plan.build(self.ties, self.early);
        // Never torn down: the process ends, and the jail does not allow it to tidy up.
        let mut domain = ManuallyDrop::new(built.map_err(|e| e.to_string())?);
        signals::without_signals(|| domain.start_devices())
            .map_err(text("a device cannot be started"))?;
        self.backend.prepare(&mut domain).map_err(|e| e.to_string())?;
        jail::confine_domain(self.backend.system_calls()).map_err(|e| e.to_string())?;
        let ending = self.backend.run(&mut domain);
        let registers = match &ending {
            Ending::Exit { .. } => Registers::default(),
            Ending::Crash(crash) => crash.registers,
        };
        let frames = domain.backtrace(&registers);
        domain.black_box().record(&ending, frames.as_slice());
        Ok(())
    }
}

/// Ends this process when its supervisor ends, however that happens.
fn die_with(supervisor: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The supervisor may have ended before the call above.
    if getppid() == Some(supervisor) {
        Ok(())
    } else {
        Err(io::Error::other("it has ended already"))
    }
}

/// Closes every descriptor that is not in `kept`.
fn close_all_but(mut kept: Vec<RawFd>) -> io::Result<()> {
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        close_range(first, fd - 1)?;
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let bounds = (libc::c_uint::try_from(first), libc::c_uint::try_from(last));
    let (Ok(first), Ok(last)) = bounds else { return Ok(()) };
    if first > last {
        return Ok(());
    }
    // SAFETY: the descriptors closed belong to objects of the supervisor, which this process never
    // uses or drops: it ends with `_exit`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
