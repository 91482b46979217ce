//! The end of a domain: what the operator is told, and the exit status.
#![forbid(unsafe_code)]
use super::Supervisor;
use crate::notice::notice;
use crate::report::Subject;
use paravane_host::ending::{Cause, Crash, Ending};
use paravane_host::status::Status;
use rustix::process::{WaitOptions, WaitStatus, waitpid};

impl Supervisor {
    /// Takes note of the domain process's end and reports it.
    pub(super) fn finish(self, subject: &Subject) -> Status {
        let wait = waitpid(Some(self.pid), WaitOptions::empty()).ok().flatten();
        let recorded = self.black_box.recorded();
        match recorded {
            Some((Ending::Exit { status }, _)) => exit(status),
            Some((Ending::Crash(crash), frames)) => self.report(subject, &crash, &frames),
            None if self.interrupted => {
                notice("ended before the guest had ended");
                Status::INTERRUPTED
            }
            None => self.unrecorded(wait.map(|(_, status)| status)),
        }
    }

    fn report(&self, subject: &Subject, crash: &Crash, frames: &[u64]) -> Status {
        if let (Cause::Host { text }, false) = (&crash.cause, self.black_box.is_started()) {
            notice(text);
            return Status::HOST;
        }
        let status = crash.cause.status();
        let console = self.black_box.console();
        notice(subject.report(crash, frames, &console, status));
        status
    }

    /// The domain process ended without a record: it was killed.
    fn unrecorded(&self, wait: Option<WaitStatus>) -> Status {
        let signal = wait.and_then(WaitStatus::terminating_signal);
        let (status, what) = match signal {
            Some(libc::SIGSYS) => {
                (Status::CRASHED, "was ended by its sandbox: it made a forbidden system call")
            }
            Some(libc::SIGKILL) if self.watchdog.as_ref().is_some_and(super::Watchdog::is_hung) => {
                (Status::HUNG, "hung, and did not even tell its registers")
            }
            Some(libc::SIGKILL) => (Status::HOST, "was killed; perhaps the host is out of memory"),
            Some(libc::SIGABRT) => (Status::INTERNAL, "failed because of a defect of the VMM"),
            _ => (Status::CRASHED, "ended without a record"),
        };
        let signal = signal.map_or(String::new(), |s| format!(" (signal {s})"));
        notice(format_args!("the domain process {what}{signal}"));
        status
    }
}

/// The guest ended itself. Statuses above those of guests have other meanings here.
fn exit(status: u8) -> Status {
    Status::of_guest(status).unwrap_or_else(|| {
        notice(format_args!("the guest ended itself with status {status}"));
        Status::CRASHED
    })
}
