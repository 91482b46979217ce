//! Time: a monotonic and a wall clock without hypercalls, and futures that wait.
mod clock;
mod queue;
mod sleep;

pub(crate) use clock::Clock;
pub(crate) use queue::TimerQueue;

pub use clock::{Instant, now, wall_clock_ns};
pub use sleep::{Elapsed, Sleep, sleep, sleep_until, timeout};
