//! The guest's clock: publishes the line from TSC to nanoseconds in the time page.
use paravane_abi::time::{TimePage, TimeSnapshot};
use paravane_host::tsc;
use rustix::time::{ClockId, clock_gettime};
use std::arch::x86_64::_rdtsc;

/// The first estimate of the slope looks back this far, ns; it is good to about 1 in 1,000.
const FIRST_SPAN_NS: u64 = 200_000;

/// The base point moves at most this often, ns.
const ANCHOR_INTERVAL_NS: u64 = 10_000_000;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    tsc: u64,
    /// `CLOCK_MONOTONIC` of the host, ns.
    host_ns: u64,
}

impl Sample {
    /// Reads both clocks.
    #[must_use]
    pub fn now() -> Self {
        let host_ns = read(ClockId::Monotonic);
        Self { tsc: read_tsc(), host_ns }
    }

    /// Reads both clocks as close to each other as a few attempts make it: being interrupted between
    /// the two would spoil an estimate.
    #[must_use]
    pub fn precise() -> Self {
        const ATTEMPTS: usize = 3;
        let attempt = |_| {
            let before = read_tsc();
            let sample = Self::now();
            (sample.tsc.saturating_sub(before), sample)
        };
        let best = (0..ATTEMPTS).map(attempt).min_by_key(|&(width, _)| width);
        best.map_or_else(Self::now, |(_, sample)| sample)
    }
}

/// The guest's clock. Monotonic time 0 is the start of the domain.
#[derive(Debug)]
pub struct Clock {
    /// Monotonic time 0.
    start: Sample,
    /// A reading before that, from which the slope is measured.
    early: Sample,
    /// What the present slope was measured over, ns.
    span_ns: u64,
    anchor_ns: u64,
    snapshot: TimeSnapshot,
}

impl Clock {
    /// A clock that starts now. `early` is a reading made as long ago as possible, the base of the
    /// first estimate of the TSC's frequency where the processor does not tell it.
    #[must_use]
    pub fn new(early: Sample) -> Self {
        let start = settle(early);
        let span_ns = start.host_ns.saturating_sub(early.host_ns);
        let ns_per_tick = tsc::announced_slope().unwrap_or_else(|| slope(early, start));
        let wall = read(ClockId::Realtime);
        let snapshot = TimeSnapshot {
            generation: 1,
            tsc_base: start.tsc,
            monotonic_base_ns: 0,
            ns_per_tick,
            wall_offset_ns: wall,
        };
        Self { start, early, span_ns, anchor_ns: 0, snapshot }
    }

    /// Publishes the line as it is known now.
    pub fn publish(&self, page: &TimePage) {
        page.publish(&self.snapshot);
    }

    /// The guest's monotonic time, ns. Corrects the line if that was not done for a while.
    pub fn tick(&mut self, page: &TimePage) -> u64 {
        let now_ns = read(ClockId::Monotonic).saturating_sub(self.start.host_ns);
        if now_ns.saturating_sub(self.anchor_ns) >= ANCHOR_INTERVAL_NS {
            self.correct(page);
        }
        now_ns
    }

    /// Moves the base point of the line to the present, and measures the slope again each time that
    /// there is twice as much to measure it over.
    fn correct(&mut self, page: &TimePage) {
        let now = Sample::precise();
        let now_ns = now.host_ns.saturating_sub(self.start.host_ns);
        self.anchor_ns = now_ns;
        self.snapshot.tsc_base = now.tsc;
        self.snapshot.monotonic_base_ns = now_ns;
        self.snapshot.wall_offset_ns = read(ClockId::Realtime).saturating_sub(now_ns);
        let span_ns = now.host_ns.saturating_sub(self.early.host_ns);
        if span_ns / 2 >= self.span_ns {
            self.snapshot.ns_per_tick = slope(self.early, now);
            self.span_ns = span_ns;
        }
        self.publish(page);
    }
}

/// The host's clock, ns.
pub(super) fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn read_tsc() -> u64 {
    // SAFETY: every x86-64 processor has a TSC, and Linux lets processes read it.
    unsafe { _rdtsc() }
}

/// A reading at least [`FIRST_SPAN_NS`] after `early`; as a rule that has passed long since.
fn settle(early: Sample) -> Sample {
    loop {
        let now = Sample::precise();
        if now.host_ns.saturating_sub(early.host_ns) >= FIRST_SPAN_NS {
            return now;
        }
        std::hint::spin_loop();
    }
}

/// Nanoseconds per tick between two readings, 32.32 fixed point.
fn slope(from: Sample, to: Sample) -> u64 {
    tsc::slope(to.host_ns.saturating_sub(from.host_ns), to.tsc.saturating_sub(from.tsc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_line_follows_the_hosts_clock() {
        let page = TimePage::default();
        let mut clock = Clock::new(Sample::now());
        clock.publish(&page);
        let mut last = 0;
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(60));
            let guest = page.read().monotonic_ns(read_tsc());
            let host = clock.tick(&page);
            assert!(guest >= last);
            // Within one part in a hundred of the time since the last anchor, scheduling included.
            assert!(host.abs_diff(guest) < 20_000_000, "guest {guest}, host {host}");
            last = guest;
        }
        assert!(page.read().wall_offset_ns > 0);
    }

    #[test]
    fn the_slope_of_a_2_ghz_tsc_is_a_half() {
        let from = Sample { tsc: 1000, host_ns: 500 };
        let to = Sample { tsc: 2_000_001_000, host_ns: 1_000_000_500 };
        assert_eq!(slope(from, to), 1 << 31);
    }
}
