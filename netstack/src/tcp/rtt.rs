//! Round-trip times and the retransmission timeout (RFC 6298).
use smoltcp::time::Duration;

/// The timeout before there is a measurement (RFC 6298, 2.1).
const INITIAL_US: u32 = 1_000_000;
/// The smallest timeout. RFC 6298, 2.4 wants a second; all large stacks use this, as a delayed
/// acknowledgement is shorter.
const MIN_US: u32 = 200_000;
/// The largest timeout (RFC 6298, 2.5: at least 60 s).
const MAX_US: u32 = 60_000_000;

/// The estimate of one connection's round-trip time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RttEstimator {
    /// Smoothed round-trip time, µs; 0 before there is a measurement.
    smoothed_us: u32,
    variation_us: u32,
    /// How often the timeout was doubled.
    backoff: u8,
}

impl RttEstimator {
    pub(crate) const fn new() -> Self {
        Self { smoothed_us: 0, variation_us: 0, backoff: 0 }
    }

    /// Takes a measurement of a segment that was sent once (Karn's algorithm).
    pub(crate) fn measured(&mut self, rtt: Duration) {
        let rtt = u32::try_from(rtt.total_micros()).unwrap_or(u32::MAX).clamp(1, MAX_US);
        if self.smoothed_us == 0 {
            self.smoothed_us = rtt;
            self.variation_us = rtt / 2;
        } else {
            let deviation = self.smoothed_us.abs_diff(rtt);
            self.variation_us = self.variation_us - self.variation_us / 4 + deviation / 4;
            self.smoothed_us = (self.smoothed_us - self.smoothed_us / 8 + rtt / 8).max(1);
        }
        self.backoff = 0;
    }

    /// Something new was acknowledged: the path works.
    pub(crate) fn progressed(&mut self) {
        self.backoff = 0;
    }

    /// The timeout ran out: the next one is twice as long.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1).min(16);
    }

    /// How often in a row it ran out.
    pub(crate) fn backoff(&self) -> u8 {
        self.backoff
    }

    /// The smoothed round-trip time, if there is one.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        (self.smoothed_us > 0).then_some(Duration::from_micros(u64::from(self.smoothed_us)))
    }

    pub(crate) fn timeout(&self) -> Duration {
        let base = match self.smoothed_us {
            0 => INITIAL_US,
            smoothed => smoothed.saturating_add(self.variation_us.saturating_mul(4)).max(MIN_US),
        };
        let us = (u64::from(base) << self.backoff).min(u64::from(MAX_US));
        Duration::from_micros(us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_timeout_follows_the_measurements() {
        let mut rtt = RttEstimator::new();
        assert_eq!((rtt.timeout(), rtt.smoothed()), (ms(1000), None));
        rtt.measured(ms(100));
        assert_eq!((rtt.timeout(), rtt.smoothed()), (ms(300), Some(ms(100))));
        for _ in 0..100 {
            rtt.measured(ms(100));
        }
        assert_eq!(rtt.timeout(), ms(200));
        rtt.measured(ms(500));
        assert_eq!(rtt.smoothed(), Some(ms(150)));
        assert!(rtt.timeout() >= ms(550) && rtt.timeout() < ms(551));
    }

    #[test]
    fn the_timeout_doubles_up_to_a_minute_until_there_is_progress() {
        let mut rtt = RttEstimator::new();
        for timeout in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(rtt.timeout(), Duration::from_secs(timeout));
            rtt.back_off();
        }
        rtt.progressed();
        assert_eq!(rtt.timeout(), Duration::from_secs(1));
    }

    #[test]
    fn absurd_measurements_do_no_harm() {
        let mut rtt = RttEstimator::new();
        for us in [0, u64::MAX, 0, 1, u64::MAX] {
            rtt.measured(Duration::from_micros(us));
            assert!(rtt.timeout() >= ms(200) && rtt.timeout() <= Duration::from_secs(60));
        }
    }
}
