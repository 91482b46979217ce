//! The clocks: the TSC read through the host's time page.
use crate::state::kernel;
use crate::to_usize;
use core::cell::Cell;
use core::ops::{Add, Sub};
use core::time::Duration;
use paravane_abi::time::{TimePage, TimeSnapshot};

/// A point of monotonic time, ns since the host's choice of zero. It goes on while the guest sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The point `ns` nanoseconds after zero.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since `self`.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        now().saturating_duration_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time, in the year 2554 of the guest.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// As [`Instant::saturating_duration_since`].
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// The clock of the guest.
pub(crate) struct Clock {
    page: Cell<Option<&'static TimePage>>,
    latest_ns: Cell<u64>,
}

impl Clock {
    /// A clock that stands at zero until it has its page.
    pub(crate) const fn new() -> Self {
        Self { page: Cell::new(None), latest_ns: Cell::new(0) }
    }

    /// Takes the time page at `address` into use.
    ///
    /// # Safety
    /// A [`TimePage`] is mapped there, aligned, for as long as the guest lives.
    pub(crate) unsafe fn set_page(&self, address: u64) {
        let page = core::ptr::with_exposed_provenance::<TimePage>(to_usize(address));
        // SAFETY: by the caller. All fields are atomics, so the host may write meanwhile.
        self.page.set(Some(unsafe { &*page }));
    }

    fn snapshot(&self) -> Option<TimeSnapshot> {
        self.page.get().map(TimePage::read)
    }

    /// Changes when the guest was cloned or restored, see [`TimePage::generation`].
    pub(crate) fn generation(&self) -> u32 {
        self.snapshot().map_or(0, |snapshot| snapshot.generation)
    }

    fn monotonic_ns(&self) -> u64 {
        let Some(snapshot) = self.snapshot() else { return 0 };
        // Never step back, even where the host moves the point of its time page or the TSC is read
        // a little early by an out-of-order core.
        let ns = snapshot.monotonic_ns(tsc()).max(self.latest_ns.get());
        self.latest_ns.set(ns);
        ns
    }

    fn wall_ns(&self) -> u64 {
        let offset = self.snapshot().map_or(0, |snapshot| snapshot.wall_offset_ns);
        offset.saturating_add(self.monotonic_ns())
    }
}

fn tsc() -> u64 {
    // SAFETY: RDTSC is part of x86-64 and the contract does not disable it (CR4.TSD is 0).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The monotonic time. Costs about as much as reading the TSC; never steps back.
#[must_use]
pub fn now() -> Instant {
    Instant(kernel().clock.monotonic_ns())
}

/// Nanoseconds since 1970-01-01 00:00 UTC. Follows the host's wall clock, so it can step.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    kernel().clock.wall_ns()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    /// A clock whose time does not run (slope 0), so that each published point is the time.
    fn clock(page: &'static TimePage) -> Clock {
        let clock = Clock::new();
        clock.page.set(Some(page));
        clock
    }

    fn at(monotonic_base_ns: u64) -> TimeSnapshot {
        TimeSnapshot {
            generation: 0,
            tsc_base: 0,
            monotonic_base_ns,
            ns_per_tick: 0,
            wall_offset_ns: 1_000_000,
        }
    }

    #[test]
    fn monotonic_time_does_not_step_back() {
        let page: &TimePage = Box::leak(Box::default());
        let clock = clock(page);
        page.publish(&at(500));
        assert_eq!(clock.monotonic_ns(), 500);
        page.publish(&at(400));
        assert_eq!(clock.monotonic_ns(), 500);
        page.publish(&at(600));
        assert_eq!(clock.monotonic_ns(), 600);
        assert_eq!(clock.wall_ns(), 1_000_600);
    }

    #[test]
    fn time_runs_with_the_tsc() {
        let page: &TimePage = Box::leak(Box::default());
        let clock = clock(page);
        page.publish(&TimeSnapshot { tsc_base: tsc(), ns_per_tick: 1 << 32, ..at(0) });
        let first = clock.monotonic_ns();
        while clock.monotonic_ns() == first {
            core::hint::spin_loop();
        }
        assert!(clock.monotonic_ns() > first);
    }

    #[test]
    fn instants_saturate() {
        let start = Instant::from_nanos(10);
        assert_eq!(start + Duration::from_nanos(5) - start, Duration::from_nanos(5));
        assert_eq!((start + Duration::MAX).as_nanos(), u64::MAX);
        assert_eq!(start - (start + Duration::from_secs(1)), Duration::ZERO);
    }
}
