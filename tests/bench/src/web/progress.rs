//! How far a session is, and how long it is going to take.
use std::time::{Duration, Instant};

/// Counts runs.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    done: u32,
    all: u32,
    expected: Duration,
}

impl Progress {
    /// Before the first of `all` runs, which are expected to take so long together.
    pub(crate) fn new(all: u32, expected: Duration) -> Self {
        Self { start: Instant::now(), done: 0, all, expected }
    }

    /// Prints a line after a run.
    pub(crate) fn step(&mut self, what: &str) {
        self.done += 1;
        let elapsed = self.start.elapsed();
        let left = clock(self.left(elapsed));
        eprintln!("  [{}/{}] {what}; {} gone, {left} left", self.done, self.all, clock(elapsed));
    }

    /// Runs that will not be: their server has failed.
    pub(crate) fn skip(&mut self, runs: u32) {
        self.done += runs;
    }

    /// At first what was expected, later by what the runs have taken.
    fn left(&self, elapsed: Duration) -> Duration {
        let share = f64::from(self.done) / f64::from(self.all.max(1));
        let expected = self.expected.mul_f64(1.0 - share.min(1.0));
        let seen = elapsed.div_f64(share.max(0.001)).saturating_sub(elapsed);
        expected.mul_f64(1.0 - share.min(1.0)) + seen.mul_f64(share.min(1.0))
    }
}

/// Minutes and seconds.
pub(crate) fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_from_the_expected_to_the_seen() {
        let mut progress = Progress::new(4, Duration::from_secs(100));
        assert_eq!(progress.left(Duration::ZERO), Duration::from_secs(100));
        progress.done = 2;
        // Expected 50 s, seen 200 s.
        assert_eq!(clock(progress.left(Duration::from_secs(200))), "2:05");
        progress.done = 4;
        assert_eq!(clock(progress.left(Duration::from_secs(400))), "0:00");
    }
}
