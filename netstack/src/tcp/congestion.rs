//! Congestion control: CUBIC (RFC 9438) with the initial window of RFC 6928.
use alloc::boxed::Box;
use smoltcp::time::{Duration, Instant};

/// Segments of the initial window (RFC 6928).
const INITIAL_SEGMENTS: u32 = 10;
/// Segments of the smallest threshold (RFC 5681, equation 4).
const THRESHOLD_SEGMENTS_MIN: u32 = 2;
/// Largest window, bytes: what the largest receive window can use (RFC 7323, 2.2), about.
const WINDOW_MAX: u32 = 1 << 30;
/// Part of the window that stays after a loss: beta (RFC 9438, 4.6), 70 %.
const BETA_NUMERATOR: u64 = 7;
const BETA_DENOMINATOR: u64 = 10;

/// What CUBIC remembers of the last loss.
#[derive(Clone, Copy, Debug)]
struct Cubic {
    /// Window before the loss, bytes (RFC 9438, 4.1.2: W_max).
    window_max: u32,
    /// Since when the window grows without a loss; unknown until it does.
    epoch: Option<Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// When the curve is at its plateau, ms after the start (K).
    plateau_ms: i64,
    /// The window at the plateau, bytes.
    origin: u32,
    /// What AIMD would have by now, bytes (W_est).
    estimate: u32,
    /// Acknowledged bytes that the estimate has not grown for yet.
    acknowledged: u32,
}

/// What is known of a congested path.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    /// Bytes that may be in flight.
    window: u32,
    /// Slow start ends here.
    threshold: u32,
    /// Exists after the first loss.
    cubic: Option<Box<Cubic>>,
}

impl Congestion {
    /// A path of which nothing is known.
    pub(crate) fn new(mss: u32) -> Self {
        Self { window: INITIAL_SEGMENTS * mss, threshold: u32::MAX, cubic: None }
    }

    /// A path without congestion.
    pub(crate) fn unlimited() -> Self {
        Self { window: u32::MAX, threshold: u32::MAX, cubic: None }
    }

    fn is_unlimited(&self) -> bool {
        self.window == u32::MAX
    }

    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// New data was acknowledged while as much was in flight as the window allows.
    pub(crate) fn acknowledged(&mut self, len: u32, mss: u32, rtt: Option<Duration>, now: Instant) {
        if self.is_unlimited() {
            return;
        }
        let mut len = len;
        if self.window < self.threshold {
            // RFC 3465 with a limit for acknowledgements of much at a time.
            let growth = len.min(self.threshold - self.window);
            self.window = self.window.saturating_add(growth).min(WINDOW_MAX);
            len -= growth;
        }
        if len > 0 {
            self.avoid_congestion(len, mss, rtt.unwrap_or(Duration::ZERO), now);
        }
    }

    /// RFC 9438, 4.2 to 4.5.
    fn avoid_congestion(&mut self, len: u32, mss: u32, rtt: Duration, now: Instant) {
        let window = self.window;
        let cubic = self.cubic.get_or_insert_with(|| {
            Box::new(Cubic { window_max: window, epoch: None }) // Slow start ended without a loss.
        });
        let epoch =
            cubic.epoch.get_or_insert_with(|| Epoch::new(now, window, cubic.window_max, mss));
        epoch.estimate(len, window, mss);
        let elapsed_ms = (now - epoch.start).total_millis().min(100_000).cast_signed();
        let rtt_ms = rtt.total_millis().min(10_000).cast_signed();
        let target = epoch.curve(elapsed_ms + rtt_ms, mss).clamp(window, window + window / 2);
        if epoch.estimate > epoch.curve(elapsed_ms, mss) {
            self.window = window.max(epoch.estimate);
        } else {
            let growth = u64::from(target - window) * u64::from(len) / u64::from(window.max(1));
            self.window = window.saturating_add(u32::try_from(growth).unwrap_or(0));
        }
        self.window = self.window.min(WINDOW_MAX);
    }

    /// A loss was noticed by acknowledgements (RFC 9438, 4.6 and 4.7).
    pub(crate) fn lost(&mut self, in_flight: u32, mss: u32) {
        if self.is_unlimited() {
            return;
        }
        let before = self.cubic.as_ref().map_or(0, |cubic| cubic.window_max);
        // Fast convergence: a window smaller than last time leaves room for others.
        let window_max =
            if self.window < before { scaled(self.window, 17, 20) } else { self.window };
        self.cubic = Some(Box::new(Cubic { window_max, epoch: None }));
        let used = self.window.min(in_flight.max(mss));
        self.threshold =
            scaled(used, BETA_NUMERATOR, BETA_DENOMINATOR).max(THRESHOLD_SEGMENTS_MIN * mss);
        self.window = self.threshold;
    }

    /// The retransmission timer ran out (RFC 5681, 3.1; RFC 9438, 4.8), or did so again for the same
    /// data.
    pub(crate) fn timed_out(&mut self, in_flight: u32, mss: u32, is_again: bool) {
        if self.is_unlimited() {
            return;
        }
        if !is_again {
            self.lost(in_flight, mss);
        }
        self.window = mss;
    }

    /// Nothing was sent for longer than the retransmission timeout (RFC 5681, 4.1).
    pub(crate) fn idled(&mut self, mss: u32) {
        if !self.is_unlimited() {
            self.window = self.window.min(INITIAL_SEGMENTS * mss);
            if let Some(cubic) = &mut self.cubic {
                cubic.epoch = None;
            }
        }
    }
}

impl Epoch {
    fn new(start: Instant, window: u32, window_max: u32, mss: u32) -> Self {
        let missing = window_max.saturating_sub(window) / mss.max(1);
        // K = cbrt(missing / C) seconds, with C = 0.4 (RFC 9438, 4.2 and 5).
        let plateau_ms = cube_root(u64::from(missing) * 2_500_000_000);
        Self {
            start,
            plateau_ms: plateau_ms.cast_signed(),
            origin: window_max.max(window),
            estimate: window,
            acknowledged: 0,
        }
    }

    /// The window of the cubic curve at `ms` after the start, bytes (RFC 9438, 4.2).
    fn curve(&self, ms: i64, mss: u32) -> u32 {
        let offset = i128::from(ms - self.plateau_ms);
        // C = 0.4 segments per cubic second.
        let growth = offset * offset * offset * i128::from(mss) * 4 / 10_000_000_000;
        let window = (i128::from(self.origin) + growth).clamp(0, i128::from(WINDOW_MAX));
        u32::try_from(window).unwrap_or(WINDOW_MAX)
    }

    /// Lets the estimate of AIMD grow (RFC 9438, 4.3): by 3 (1 - beta) / (1 + beta) segments a window.
    fn estimate(&mut self, len: u32, window: u32, mss: u32) {
        self.acknowledged = self.acknowledged.saturating_add(len);
        let growth =
            u64::from(self.acknowledged) * u64::from(mss) * 9 / 17 / u64::from(window.max(1));
        if growth > 0 {
            self.estimate = self.estimate.saturating_add(u32::try_from(growth).unwrap_or(0));
            self.acknowledged = 0;
        }
    }
}

fn scaled(value: u32, numerator: u64, denominator: u64) -> u32 {
    u32::try_from(u64::from(value) * numerator / denominator).unwrap_or(u32::MAX)
}

/// The largest integer whose cube is at most `value`.
fn cube_root(value: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..21).rev() {
        let next = root | 1 << bit;
        if next * next * next <= value {
            root = next;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn at(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Acknowledges windows, one each 100 ms, from `from` to `to`.
    fn grow(congestion: &mut Congestion, from: i64, to: i64) {
        for ms in (from..to).step_by(100) {
            let window = congestion.window();
            for _ in 0..window / MSS {
                congestion.acknowledged(MSS, MSS, Some(Duration::from_millis(100)), at(ms));
            }
        }
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let mut congestion = Congestion::new(MSS);
        for expected in [20, 40, 80] {
            grow(&mut congestion, 0, 100);
            assert_eq!(congestion.window(), expected * MSS);
        }
    }

    #[test]
    fn the_window_falls_to_seven_tenths_and_comes_back_in_time() {
        let mut congestion = Congestion::new(MSS);
        congestion.window = 1000 * MSS;
        congestion.lost(1000 * MSS, MSS);
        assert_eq!(congestion.window(), 700 * MSS);
        // K = cbrt(300 / 0.4) = 9.09 s.
        grow(&mut congestion, 0, 5000);
        assert!((940 * MSS..1000 * MSS).contains(&congestion.window()), "{}", congestion.window());
        grow(&mut congestion, 5000, 9100);
        assert!((995 * MSS..1005 * MSS).contains(&congestion.window()), "{}", congestion.window());
        grow(&mut congestion, 9100, 18_200);
        assert!((1250 * MSS..1350 * MSS).contains(&congestion.window()), "{}", congestion.window());
    }

    #[test]
    fn small_windows_grow_as_with_reno() {
        let mut congestion = Congestion::new(MSS);
        congestion.window = 10 * MSS;
        congestion.lost(10 * MSS, MSS);
        grow(&mut congestion, 0, 1000);
        // About 9/17 of a segment a round trip, ten times.
        assert!((11 * MSS..14 * MSS).contains(&congestion.window()), "{}", congestion.window());
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_a_threshold() {
        let mut congestion = Congestion::new(MSS);
        congestion.timed_out(10 * MSS, MSS, false);
        assert_eq!(congestion.window(), MSS);
        grow(&mut congestion, 0, 300);
        assert!((7 * MSS..8 * MSS).contains(&congestion.window()), "{}", congestion.window());
        congestion.timed_out(2 * MSS, MSS, true);
        assert_eq!((congestion.window(), congestion.threshold), (MSS, 7 * MSS));
    }

    #[test]
    fn windows_stay_within_bounds() {
        let mut congestion = Congestion::new(MSS);
        for ms in 0..100_000 {
            congestion.acknowledged(1 << 30, MSS, None, at(ms * 1000));
        }
        assert_eq!(congestion.window(), WINDOW_MAX);
        for _ in 0..100 {
            congestion.lost(congestion.window(), MSS);
        }
        assert_eq!(congestion.window(), 2 * MSS);
        let mut unlimited = Congestion::unlimited();
        unlimited.timed_out(1, MSS, false);
        unlimited.idled(MSS);
        assert_eq!(unlimited.window(), u32::MAX);
    }

    #[test]
    fn cube_roots() {
        for (value, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (1 << 60, 1 << 20)]
        {
            assert_eq!(cube_root(value), root);
        }
    }
}
