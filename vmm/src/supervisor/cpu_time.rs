//! How much time of processors a process has had.
use rustix::process::Pid;
use std::io;
use std::time::Duration;

/// The CPU-time clock of a process (`clock_getcpuclockid(3)`).
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The clock of process `pid`.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        let mut clock = 0;
        // SAFETY: the result goes to a variable here.
        match unsafe { libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock) } {
            0 => Ok(Self(clock)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// What all threads of the process have used; `None` once it has ended.
    pub(super) fn read(self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the result goes to a variable here.
        let result = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        (result == 0).then(|| Some(Duration::new(seconds.ok()?, nanoseconds.ok()?)))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_one_that_ended_has_no_clock() {
        let clock = CpuClock::of(rustix::process::getpid()).unwrap();
        let start = clock.read().unwrap();
        while clock.read().unwrap() < start + Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let clock = CpuClock::of(Pid::from_child(&child)).unwrap();
        child.wait().unwrap();
        assert_eq!(clock.read(), None);
    }
}
