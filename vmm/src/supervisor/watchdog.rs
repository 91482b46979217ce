//! The watchdog: notices a guest that makes no hypercalls.
#![forbid(unsafe_code)]
use crate::black_box::BlackBox;
use std::time::{Duration, Instant};

/// How long a hung guest's process may take to tell its registers.
const REPORT_TIME: Duration = Duration::from_secs(2);

/// A longer pause between two looks means that the supervisor itself was stopped: it says nothing
/// about the guest, which was probably stopped, too.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Watches the heartbeat of a guest.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Duration,
    heartbeat: u64,
    /// For how long the heart has not been beating.
    silence: Duration,
    last_look: Option<Instant>,
    hung: bool,
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
    /// A watchdog that calls a guest hung after `patience` without a hypercall.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, heartbeat: 0, silence: Duration::ZERO, last_look: None, hung: false }
    }

    /// Whether the guest was found hung.
    pub(super) fn is_hung(&self) -> bool {
        self.hung
    }

    /// Looks at the heartbeat; to be called about once a second.
    pub(super) fn look(&mut self, black_box: &BlackBox, now: Instant) -> Verdict {
        let heartbeat = black_box.heartbeat();
        let pause = self.last_look.map_or(Duration::ZERO, |last| now - last);
        self.last_look = Some(now);
        let beats = heartbeat != self.heartbeat || black_box.is_idle() || !black_box.is_started();
        if beats && !self.hung {
            self.heartbeat = heartbeat;
            self.silence = Duration::ZERO;
            return Verdict::Alive;
        }
        self.silence += pause.min(PAUSE_MAX);
        match self.hung {
            false if self.silence >= self.patience => {
                self.hung = true;
                self.silence = Duration::ZERO;
                Verdict::Hung
            }
            true if self.silence >= REPORT_TIME => Verdict::Dead,
            _ => Verdict::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(black_box: &BlackBox, seconds: &[u64]) -> Vec<Verdict> {
        let mut watchdog = Watchdog::new(Duration::from_secs(3));
        let start = Instant::now();
        let at = |s: &u64| start + Duration::from_secs(*s);
        seconds.iter().map(|s| watchdog.look(black_box, at(s))).collect()
    }

    #[test]
    fn a_silent_guest_hangs_and_then_is_dead() {
        let black_box = BlackBox::map().unwrap();
        black_box.set_started();
        let (alive, hung, dead) = (Verdict::Alive, Verdict::Hung, Verdict::Dead);
        let found = looks(black_box, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(found, [alive, alive, alive, hung, alive, dead]);
    }

    #[test]
    fn idle_and_not_yet_started_guests_live() {
        let black_box = BlackBox::map().unwrap();
        assert!(looks(black_box, &[0, 2, 4, 6]).iter().all(|v| *v == Verdict::Alive));
        black_box.set_started();
        black_box.set_idle(true);
        assert!(looks(black_box, &[0, 2, 4, 6]).iter().all(|v| *v == Verdict::Alive));
    }

    #[test]
    fn a_heartbeat_starts_the_silence_anew() {
        let black_box = BlackBox::map().unwrap();
        black_box.set_started();
        let mut watchdog = Watchdog::new(Duration::from_secs(3));
        let start = Instant::now();
        for second in 0..20 {
            black_box.beat();
            let verdict = watchdog.look(black_box, start + Duration::from_secs(second * 2));
            assert_eq!(verdict, Verdict::Alive);
        }
    }
}
