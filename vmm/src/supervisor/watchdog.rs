//! The watchdog: notices a guest that makes no hypercalls.
//!
//! A guest's patience is counted in the processor time that its process has had: on a host that is busy or
//! was suspended, a guest that hardly gets to run is slow, and does not hang.
#![forbid(unsafe_code)]
use crate::black_box::BlackBox;
use std::time::{Duration, Instant};

/// How much processor time a hung guest's process may take to tell its registers.
const REPORT_CPU_TIME: Duration = Duration::from_secs(2);

/// How long it may take for that altogether.
const REPORT_TIME: Duration = Duration::from_secs(30);

/// Watches the heartbeat of a guest.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Duration,
    heartbeat: u64,
    /// Processor time when the heart was last seen to beat.
    beat_at: Duration,
    hung: Option<Hung>,
}

/// When the guest was found hung.
#[derive(Debug, Clone, Copy)]
struct Hung {
    cpu_time: Duration,
    at: Instant,
}

/// What a look at the heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It beats, or not for long enough.
    Alive,
    /// The guest hangs: ask for its registers.
    Hung,
    /// It was asked and did not answer.
    Dead,
}

impl Watchdog {
    /// A watchdog that calls a guest hung after `patience` of processor time without a hypercall.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, heartbeat: 0, beat_at: Duration::ZERO, hung: None }
    }

    /// Whether the guest was found hung.
    pub(super) fn is_hung(&self) -> bool {
        self.hung.is_some()
    }

    /// Looks at the heartbeat of a guest whose process has had `cpu_time`.
    pub(super) fn look(
        &mut self,
        black_box: &BlackBox,
        cpu_time: Duration,
        now: Instant,
    ) -> Verdict {
        if let Some(hung) = self.hung {
            let is_dead = cpu_time.saturating_sub(hung.cpu_time) >= REPORT_CPU_TIME
                || now.duration_since(hung.at) >= REPORT_TIME;
            return if is_dead { Verdict::Dead } else { Verdict::Alive };
        }
        let heartbeat = black_box.heartbeat();
        if heartbeat != self.heartbeat || black_box.is_idle() || !black_box.is_started() {
            self.heartbeat = heartbeat;
            self.beat_at = cpu_time;
            return Verdict::Alive;
        }
        if cpu_time.saturating_sub(self.beat_at) < self.patience {
            return Verdict::Alive;
        }
        self.hung = Some(Hung { cpu_time, at: now });
        Verdict::Hung
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Alive, Dead, Hung};

    /// What looks say at these seconds of processor time and of the clock on the wall.
    #[track_caller]
    fn check(black_box: &BlackBox, looks: &[(u64, u64)], expect: &[Verdict]) {
        let mut watchdog = Watchdog::new(Duration::from_secs(3));
        let start = Instant::now();
        let second = Duration::from_secs;
        let mut look = |&(cpu, wall)| watchdog.look(black_box, second(cpu), start + second(wall));
        assert_eq!(looks.iter().map(&mut look).collect::<Vec<_>>(), expect);
    }

    fn started() -> &'static BlackBox {
        let black_box = BlackBox::map().unwrap();
        black_box.set_started();
        black_box
    }

    #[test]
    fn a_silent_guest_hangs_and_then_is_dead() {
        let looks = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)];
        check(started(), &looks, &[Alive, Alive, Alive, Hung, Alive, Dead]);
    }

    #[test]
    fn a_guest_that_does_not_get_to_run_does_not_hang() {
        check(started(), &[(0, 0), (1, 1000), (2, 2000)], &[Alive; 3]);
        let looks = [(3, 1000), (3, 1020), (4, 1029), (4, 1030)];
        check(started(), &looks, &[Hung, Alive, Alive, Dead]);
    }

    #[test]
    fn idle_and_not_yet_started_guests_live() {
        let black_box = BlackBox::map().unwrap();
        let looks = [(0, 0), (2, 2), (4, 4), (6, 6)];
        check(black_box, &looks, &[Alive; 4]);
        black_box.set_started();
        black_box.begin_idle();
        check(black_box, &looks, &[Alive; 4]);
    }

    #[test]
    fn a_heartbeat_starts_the_silence_anew() {
        let black_box = started();
        let mut watchdog = Watchdog::new(Duration::from_secs(3));
        for second in 0..20 {
            black_box.beat();
            let verdict = watchdog.look(black_box, Duration::from_secs(second * 4), Instant::now());
            assert_eq!(verdict, Alive);
        }
    }
}
