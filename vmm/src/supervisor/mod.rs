//! The supervisor: starts the domain process, watches it, and reports its end.
//!
//! The supervisor is the parent of the domain process and shares nothing with it but the black box
//! and a descriptor that says "stop". Whatever a hostile guest does to its process, the supervisor
//! only reads numbers.
mod child;
mod end;
mod signals;
mod watchdog;

use crate::backend::Backend;
use crate::black_box::BlackBox;
use crate::domain::Plan;
use crate::domain::clock::Sample;
use crate::jail;
use crate::net::user::UserNetwork;
use crate::notice::notice;
use crate::report::Subject;
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

/// How often the supervisor looks at the guest's heartbeat.
const TICK: Duration = Duration::from_secs(1);

/// What the operator wants of the supervisor.
#[derive(Debug)]
pub struct Settings {
    /// How long a guest may run without a hypercall; `None` for as long as it likes.
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
    watchdog: Option<Watchdog>,
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
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let signals = Signals::new()?;
        let subject = Subject::new(&plan)?;
        let child = child::Child { plan, backend, black_box, stop: stop.try_clone()?, early };
        let pid = child.fork()?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
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
            watchdog,
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
            self.check_heartbeat();
        }
        self.finish(subject)
    }

    /// Sleeps until there is something to do; true if the domain process has ended.
    fn wait_for_news(&self) -> bool {
        let mut descriptors = [
            PollFd::new(&self.process, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        let tick = Timespec::try_from(TICK).ok();
        // An interrupted call is a wake-up like any other.
        let _ = rustix::event::poll(&mut descriptors, tick.as_ref());
        descriptors[0].revents().contains(PollFlags::IN)
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

    fn check_heartbeat(&mut self) {
        let Some(watchdog) = &mut self.watchdog else { return };
        match watchdog.look(self.black_box, Instant::now()) {
            watchdog::Verdict::Alive => {}
            watchdog::Verdict::Hung => self.send(Signal::USR1),
            watchdog::Verdict::Dead => self.send(Signal::KILL),
        }
    }

    fn send(&self, signal: Signal) {
        // Fails only if the process has ended, which the next poll tells.
        let _ = pidfd_send_signal(self.process.as_fd(), signal);
    }
}
