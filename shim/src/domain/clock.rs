//! The guest's time, and the one timer: for the deadline of a wait, and to see whether the guest lives.
use crate::machine::apic::Apic;
use crate::machine::clock::{Rates, scale, tsc, wall_clock};
use paravane_abi::time::TimeSnapshot;

/// Longest time that the timer is set to, ns; for later deadlines it is set again.
const TIMER_MAX_NS: u64 = 10_000_000_000;

/// Time, and how long the guest may go without a hypercall.
#[derive(Debug)]
pub struct Clock {
    line: TimeSnapshot,
    rates: Rates,
    /// Longest time without a hypercall, ns; `None` for any.
    patience_ns: Option<u64>,
    /// Time of the last hypercall, ns.
    last_call_ns: u64,
    /// When the timer comes, ns; `None` when it is not set.
    timer_ns: Option<u64>,
}

impl Clock {
    /// A clock on which it is 0 now.
    #[must_use]
    pub fn new(rates: Rates, watchdog_seconds: u32) -> Self {
        let seconds = Some(u64::from(watchdog_seconds)).filter(|&seconds| seconds > 0);
        let line = TimeSnapshot {
            generation: 1,
            tsc_base: tsc(),
            monotonic_base_ns: 0,
            ns_per_tick: rates.ns_per_tick,
            wall_offset_ns: wall_clock(),
        };
        let patience_ns = seconds.map(|seconds| seconds * 1_000_000_000);
        Self { line, rates, patience_ns, last_call_ns: 0, timer_ns: None }
    }

    /// The line from TSC to time, for the time page.
    #[must_use]
    pub fn line(&self) -> &TimeSnapshot {
        &self.line
    }

    /// Monotonic time, ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.line.monotonic_ns(tsc())
    }

    /// Notes that the guest lives.
    pub(super) fn beat(&mut self) {
        self.last_call_ns = self.now_ns();
    }

    /// Notes that the timer came.
    pub(super) fn timer_came(&mut self) {
        self.timer_ns = None;
    }

    /// Has the timer come at `deadline_ns` or before; it may come for something else first.
    pub(super) fn set_timer(&mut self, apic: &Apic, deadline_ns: u64) {
        let now_ns = self.now_ns();
        let at_ns = deadline_ns.min(now_ns + TIMER_MAX_NS);
        if self.timer_ns.is_some_and(|set| set <= at_ns) {
            return;
        }
        let ticks = scale(at_ns.saturating_sub(now_ns), self.rates.timer_per_ns);
        // A timer set to 0 stands still.
        apic.start_timer(u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
        self.timer_ns = Some(at_ns);
    }

    /// Has the timer come to see whether the guest lives, if anybody wants to know.
    pub fn watch(&mut self, apic: &Apic) {
        if let Some(patience_ns) = self.patience_ns {
            self.set_timer(apic, self.last_call_ns + patience_ns);
        }
    }

    /// Whether the guest made no hypercall for longer than patience lasts.
    pub(super) fn is_hung(&self) -> bool {
        let since_ns = self.now_ns().saturating_sub(self.last_call_ns);
        self.patience_ns.is_some_and(|patience_ns| since_ns >= patience_ns)
    }
}
