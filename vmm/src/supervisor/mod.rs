//! The supervisor: starts the domain process, watches it, and reports its end.
//!
//! The supervisor is the parent of the domain process and shares nothing with it but the black box, the
//! wire of a user network, a descriptor that says "stop", and one that wakes the supervisor up. Whatever a
//! hostile guest does to its process, the supervisor only reads numbers and frames.
//!
//! A guest that waits for the host cannot hang: nobody watches it then, and an idle appliance makes no
//! system calls at all.
mod child;
mod cpu_time;
mod end;
mod signals;
mod watchdog;

use crate::backend::Backend;
use crate::black_box::BlackBox;
use crate::domain::clock::Sample;
use crate::domain::{Plan, Ties};
use crate::jail;
use crate::net::user::UserNetwork;
use crate::notice::notice;
use crate::report::Subject;
use cpu_time::CpuClock;
use paravane_host::status::Status;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signals::Signals;
use std::io;
use std::time::{Duration, Instant};
use watchdog::Watchdog;

/// How long a guest may take to end after it was asked to.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// How often the supervisor looks at the heartbeat of a guest that is not idle. A guest that rings for a
/// supervisor that had stopped watching gets it at most this often, too.
const TICK: Duration = Duration::from_secs(1);

/// What the operator wants of the supervisor.
#[derive(Debug)]
pub struct Settings {
    /// How much processor time a guest may take without a hypercall; `None` for as much as it likes.
    pub patience: Option<Duration>,
    /// The user-mode network to carry on.
    pub network: Option<UserNetwork>,
    /// What to say once the domain process runs.
    pub notices: Vec<String>,
}

/// Runs the domain of `plan` on `backend` to its end, and reports it.
#[must_use]
pub fn run(plan: Plan, backend: Box<dyn Backend>, settings: Settings, early: Sample) -> Status {
    match Supervisor::start(plan, backend, settings, early) {
        Ok((supervisor, subject)) => supervisor.watch(&subject),
        Err(error) => {
            notice(format_args!("the domain process cannot be started: {error}"));
            Status::HOST
        }
    }
}

#[derive(Debug)]
struct Supervisor {
    black_box: &'static BlackBox,
    signals: Signals,
    stop: OwnedFd,
    pid: Pid,
    process: OwnedFd,
    cpu_clock: CpuClock,
    watchdog: Option<Watchdog>,
    /// Readable when the guest runs although nobody watches.
    doorbell: OwnedFd,
    /// Nobody watches, until the doorbell rings.
    is_asleep: bool,
    /// Once the guest was asked to end: until when it may take.
    drain_until: Option<Instant>,
    /// The operator did not want to wait.
    interrupted: bool,
}

impl Supervisor {
    fn start(
        plan: Plan,
        backend: Box<dyn Backend>,
        settings: Settings,
        early: Sample,
    ) -> io::Result<(Self, Subject)> {
        let black_box = BlackBox::map()?;
        let counter = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let (stop, doorbell) = (counter()?, counter()?);
        let signals = Signals::new()?;
        let subject = Subject::new(&plan)?;
        let ties = Ties { black_box, stop: stop.try_clone()?, doorbell: doorbell.try_clone()? };
        let pid = child::Child { plan, backend, ties, early }.fork()?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let cpu_clock = CpuClock::of(pid)?;
        // From here on there may be threads.
        if let Some(network) = settings.network {
            network.start()?;
        }
        jail::confine_supervisor().map_err(io::Error::other)?;
        settings.notices.iter().for_each(notice);
        let watchdog = settings.patience.map(Watchdog::new);
        let supervisor = Self {
            black_box,
            signals,
            stop,
            pid,
            process,
            cpu_clock,
            is_asleep: watchdog.is_none(),
            watchdog,
            doorbell,
            drain_until: None,
            interrupted: false,
        };
        Ok((supervisor, subject))
    }

    fn watch(mut self, subject: &Subject) -> Status {
        while !self.wait_for_news() {
            if let Some(signal) = self.signals.take() {
                self.on_signal(signal);
            }
            self.check_drain();
        }
        self.finish(subject)
    }

    /// Sleeps until there is something to do; true if the domain process has ended.
    fn wait_for_news(&mut self) -> bool {
        let mut descriptors = [
            PollFd::new(&self.process, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.doorbell, PollFlags::IN),
        ];
        // Awake, it does not hear the doorbell: a guest that rings all the time is heard once a tick.
        let count = if self.is_asleep { 3 } else { 2 };
        let timeout = self.timeout().and_then(|timeout| Timespec::try_from(timeout).ok());
        // An interrupted call is a wake-up like any other.
        let ready = rustix::event::poll(&mut descriptors[..count], timeout.as_ref());
        let [process, _, doorbell] = descriptors.map(|d| d.revents().contains(PollFlags::IN));
        if doorbell {
            self.wake_up();
        } else if ready == Ok(0) {
            self.check_heartbeat();
        }
        process
    }

    fn timeout(&self) -> Option<Duration> {
        let drain = self.drain_until.map(|until| until.saturating_duration_since(Instant::now()));
        let tick = (!self.is_asleep).then_some(TICK);
        drain.into_iter().chain(tick).min()
    }

    fn wake_up(&mut self) {
        self.is_asleep = self.watchdog.is_none();
        // Takes the counter back to 0; there is nothing in it to learn.
        let _ = rustix::io::read(&self.doorbell, &mut [0; 8]);
    }

    fn on_signal(&mut self, signal: signals::Request) {
        match signal {
            signals::Request::Stop if self.drain_until.is_none() => self.request_stop(),
            signals::Request::Stop => {
                self.interrupted = true;
                self.send(Signal::KILL);
            }
        }
    }

    fn request_stop(&mut self) {
        notice("asked the guest to end; interrupt again to end it at once");
        self.drain_until = Some(Instant::now() + DRAIN_TIME);
        self.black_box.request_stop();
        // The counter cannot overflow: this is written once.
        let _ = rustix::io::write(&self.stop, &1_u64.to_le_bytes());
    }

    fn check_drain(&mut self) {
        if self.drain_until.is_some_and(|until| Instant::now() >= until) {
            self.interrupted = true;
            self.send(Signal::KILL);
        }
    }

    /// Looks at the heartbeat; falls asleep over a guest that waits.
    fn check_heartbeat(&mut self) {
        let (Some(watchdog), Some(cpu_time)) = (&mut self.watchdog, self.cpu_clock.read()) else {
            return;
        };
        match watchdog.look(self.black_box, cpu_time, Instant::now()) {
            watchdog::Verdict::Alive if watchdog.is_hung() => {}
            watchdog::Verdict::Alive => self.is_asleep = self.black_box.stop_watching(),
            watchdog::Verdict::Hung => self.send(Signal::USR1),
            watchdog::Verdict::Dead => self.send(Signal::KILL),
        }
    }

    fn send(&self, signal: Signal) {
        // Fails only if the process has ended, which the next poll tells.
        let _ = pidfd_send_signal(self.process.as_fd(), signal);
    }
}
