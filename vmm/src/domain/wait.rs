//! The `WAIT` hypercall: the only place where a domain sleeps.
use super::hypercall::Stop;
use super::{Domain, clock};
use paravane_abi::hypercall::EVENT_STOP;
use std::os::fd::AsRawFd;

impl Domain {
    /// Lets the devices work until there is an event to tell or the deadline has passed; the answer
    /// is the event mask.
    pub(super) fn wait(&mut self, deadline_ns: u64) -> Result<u64, Stop> {
        loop {
            let events = self.poll_devices()?;
            let stop = self.ties.black_box.is_stop_requested();
            let is_news = events != 0 || (stop && !self.stop_told);
            let now_ns = self.clock.tick(self.host_pages.time_page());
            if is_news || deadline_ns <= now_ns {
                self.stop_told = stop;
                return Ok(if stop { events | EVENT_STOP } else { events });
            }
            self.sleep(deadline_ns - now_ns);
        }
    }

    fn poll_devices(&mut self) -> Result<u64, Stop> {
        let mut events = 0;
        for (index, slot) in self.devices.iter_mut().enumerate().filter(|(_, s)| s.attached) {
            if slot.device.poll(&self.ram)? {
                events |= 1 << index;
            }
        }
        Ok(events)
    }

    /// Sleeps until a device's descriptor is ready, a stop is requested that the guest does not know of,
    /// or `timeout_ns` is over. Wakes up early for any reason; the caller looks again.
    fn sleep(&mut self, timeout_ns: u64) {
        self.interests.clear();
        if !self.stop_told {
            let fd = self.ties.stop.as_raw_fd();
            self.interests.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        }
        for slot in self.devices.iter().filter(|s| s.attached) {
            slot.device.interests(&mut self.interests);
        }
        let Self { ties, interests, polling, .. } = self;
        let poll = |timeout_ns| poll(interests, timeout_ns);
        ties.idle(|| polling.wait(timeout_ns, clock::monotonic_ns, poll));
    }
}

/// Whether a descriptor is ready.
fn poll(descriptors: &mut [libc::pollfd], timeout_ns: u64) -> bool {
    const SECOND_NS: u64 = 1_000_000_000;
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout_ns / SECOND_NS).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(timeout_ns % SECOND_NS).unwrap_or(0),
    };
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: the array and the timeout live across the call; no signal mask is given. Failure is a
    // wake-up like any other.
    let ready = unsafe {
        libc::ppoll(descriptors.as_mut_ptr(), count, &raw const timeout, std::ptr::null())
    };
    ready != 0
}
