//! Looking for news for a while before sleeping, where the operator wants that.
//!
//! Waking a sleeping thread takes long: tens of microseconds on a machine whose cores sleep, too. A
//! thread that looks again and again notices at once, and keeps its core busy. So it looks only while
//! that pays: the time for it grows with waits that turn out short, and shrinks with long ones, as KVM's
//! for a halted processor does.
#![forbid(unsafe_code)]
use std::time::Duration;

/// Where the time to look begins to grow, ns.
const WINDOW_MIN_NS: u64 = 10_000;

/// How long a domain looks before it sleeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polling {
    /// As long as the operator allows; 0 for not at all.
    max_ns: u64,
    /// As long as it pays at present.
    window_ns: u64,
}

impl Polling {
    /// Looks for at most `max` at a time.
    pub(super) fn new(max: Duration) -> Self {
        let max_ns = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Self { max_ns, window_ns: 0 }
    }

    /// Waits for news, at most `timeout_ns`. `wait` does that for a time in ns, and says whether there is
    /// news; `now_ns` is a clock.
    pub(super) fn wait(
        &mut self,
        timeout_ns: u64,
        now_ns: impl Fn() -> u64,
        mut wait: impl FnMut(u64) -> bool,
    ) {
        if self.max_ns == 0 {
            wait(timeout_ns);
            return;
        }
        let start_ns = now_ns();
        let waited_ns = || now_ns().saturating_sub(start_ns);
        let end_ns = self.window_ns.min(timeout_ns);
        let mut is_over = false;
        while !is_over && waited_ns() < end_ns {
            is_over = wait(0);
        }
        let left_ns = timeout_ns.saturating_sub(waited_ns());
        if !is_over && left_ns > 0 {
            wait(left_ns);
        }
        self.learn(waited_ns());
    }

    /// Adapts the time to look to a wait that took `waited_ns`.
    fn learn(&mut self, waited_ns: u64) {
        if waited_ns > self.max_ns {
            self.window_ns /= 2;
            if self.window_ns < WINDOW_MIN_NS {
                self.window_ns = 0;
            }
        } else if waited_ns > self.window_ns {
            self.window_ns = (self.window_ns * 2).max(WINDOW_MIN_NS).min(self.max_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const US: u64 = 1000;
    const SECOND: u64 = 1_000_000 * US;

    /// Waits for news that comes `delay_ns` from now, where a look takes 1 us; how often it looked and
    /// slept.
    fn wait(polling: &mut Polling, timeout_ns: u64, delay_ns: u64) -> (u64, u64) {
        let now_ns = Cell::new(7 * SECOND);
        let news_ns = now_ns.get() + delay_ns;
        let (mut looks, mut sleeps) = (0, 0);
        let wait = |timeout_ns: u64| {
            if timeout_ns == 0 {
                looks += 1;
                now_ns.set(now_ns.get() + US);
            } else {
                sleeps += 1;
                now_ns.set(news_ns.min(now_ns.get() + timeout_ns));
            }
            now_ns.get() >= news_ns
        };
        polling.wait(timeout_ns, || now_ns.get(), wait);
        (looks, sleeps)
    }

    #[test]
    fn who_does_not_want_it_sleeps_at_once() {
        let mut polling = Polling::new(Duration::ZERO);
        (0..10).for_each(|_| assert_eq!(wait(&mut polling, SECOND, 30 * US), (0, 1)));
    }

    #[test]
    fn short_waits_are_looked_through_before_long() {
        let mut polling = Polling::new(Duration::from_micros(100));
        let waits: Vec<_> = (0..6).map(|_| wait(&mut polling, SECOND, 70 * US)).collect();
        assert_eq!(waits, [(0, 1), (10, 1), (20, 1), (40, 1), (70, 0), (70, 0)]);
    }

    #[test]
    fn after_long_waits_there_is_no_more_looking() {
        let mut polling = Polling::new(Duration::from_micros(100));
        (0..6).for_each(|_| {
            wait(&mut polling, SECOND, 100 * US);
        });
        assert_eq!(polling.window_ns, 100 * US);
        let looks: Vec<_> = (0..6).map(|_| wait(&mut polling, SECOND, 101 * US).0).collect();
        assert_eq!(looks, [100, 50, 25, 13, 0, 0]);
    }

    #[test]
    fn neither_looking_nor_sleeping_goes_past_the_deadline() {
        let mut polling = Polling::new(Duration::from_micros(100));
        (0..6).for_each(|_| {
            wait(&mut polling, SECOND, 100 * US);
        });
        assert_eq!(wait(&mut polling, 30 * US, SECOND), (30, 0));
        assert_eq!(wait(&mut polling, 300 * US, SECOND), (100, 1));
    }
}
