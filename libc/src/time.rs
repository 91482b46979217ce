//! Clocks and sleep.
use crate::errno::{EINVAL, fail};
use core::ffi::{c_int, c_long};
use core::time::Duration;
use paravane_kernel::time as kernel_time;

/// `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// `CLOCK_REALTIME`.
const REALTIME: c_int = 0;
/// `CLOCK_MONOTONIC`.
const MONOTONIC: c_int = 1;
/// `CLOCK_MONOTONIC_RAW`, `_COARSE` and `CLOCK_BOOTTIME`: a guest has one monotonic clock.
const ALSO_MONOTONIC: [c_int; 3] = [4, 6, 7];
/// `TIMER_ABSTIME`: the request of `clock_nanosleep` is a point in time.
const ABSOLUTE: c_int = 1;

const NS_PER_S: u64 = 1_000_000_000;

impl Timespec {
    fn from_ns(ns: u64) -> Self {
        // Neither quotient nor remainder reaches the range of the sign bit.
        let seconds = (ns / NS_PER_S).cast_signed();
        Self { seconds, nanoseconds: (ns % NS_PER_S).cast_signed() }
    }

    /// The time in ns, at most what 64 bits hold; `None` if it is not a valid time.
    fn to_ns(self) -> Option<u64> {
        let seconds = u64::try_from(self.seconds).ok()?;
        let nanoseconds = u64::try_from(self.nanoseconds).ok().filter(|&ns| ns < NS_PER_S)?;
        Some(seconds.saturating_mul(NS_PER_S).saturating_add(nanoseconds))
    }
}

/// What clock `clock` says, ns.
fn clock_ns(clock: c_int) -> Option<u64> {
    match clock {
        REALTIME => Some(kernel_time::wall_clock_ns()),
        MONOTONIC => Some(kernel_time::now().as_nanos()),
        _ if ALSO_MONOTONIC.contains(&clock) => clock_ns(MONOTONIC),
        _ => None,
    }
}

/// Nanoseconds until `clock` says `request`; `None` if one of them makes no sense.
pub(crate) fn until_ns(clock: c_int, request: Timespec) -> Option<u64> {
    Some(request.to_ns()?.saturating_sub(clock_ns(clock)?))
}

/// Waits for `ns` nanoseconds; in a fiber, the others run meanwhile.
fn sleep_ns(ns: u64) {
    paravane_kernel::run(kernel_time::sleep(Duration::from_nanos(ns)));
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn clock_gettime(clock: c_int, out: *mut Timespec) -> c_int {
    let Some(ns) = clock_ns(clock) else { return fail(EINVAL) };
    // SAFETY: by the caller, as C has it.
    unsafe { out.write(Timespec::from_ns(ns)) };
    0
}

/// Sleeps as long as asked: there are no signals, so nothing is ever written to `remaining`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn clock_nanosleep(
    clock: c_int,
    flags: c_int,
    request: *const Timespec,
    _remaining: *mut Timespec,
) -> c_int {
    // SAFETY: by the caller, as C has it.
    let request = unsafe { request.read() };
    let absolute = flags & ABSOLUTE != 0;
    let ns = if absolute { until_ns(clock, request) } else { request.to_ns() };
    let Some(ns) = ns else { return EINVAL };
    sleep_ns(ns);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timespecs_are_seconds_and_a_rest() {
        let check = |seconds, nanoseconds, expect| {
            let spec = Timespec { seconds, nanoseconds };
            assert_eq!(spec.to_ns(), expect);
            if let Some(ns) = expect.filter(|&ns| ns < u64::MAX) {
                assert_eq!(Timespec::from_ns(ns), spec);
            }
        };
        check(0, 0, Some(0));
        check(1, 999_999_999, Some(1_999_999_999));
        check(i64::MAX, 5, Some(u64::MAX));
        check(-1, 0, None);
        check(0, -1, None);
        check(0, 1_000_000_000, None);
    }
}
