//! The time page: monotonic and wall-clock time without a call.
//!
//! The idea is pvclock's (Linux, `pvclock-abi.h`): the host publishes a point on the line from TSC to
//! nanoseconds and its slope, guarded by a sequence number that is odd while the host writes.
//! The host moves the point as it likes, at the latest after a migration; a guest that needs time
//! never to step back keeps the last value it saw.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The time page. OUT, read-only to the guest. All fields are atomic because the host may write while
/// the guest reads.
#[derive(Debug, Default)]
#[repr(C)]
pub struct TimePage {
    /// Even: the fields belong together. Odd: the host is writing.
    pub sequence: AtomicU32,
    /// Changes whenever the guest's randomness must be renewed: after a clone or a restore.
    pub generation: AtomicU32,
    /// A TSC value.
    pub tsc_base: AtomicU64,
    /// Monotonic time at `tsc_base`, ns.
    pub monotonic_base_ns: AtomicU64,
    /// Nanoseconds per TSC tick, as a 32.32 fixed-point number.
    pub ns_per_tick: AtomicU64,
    /// Unix time at monotonic time 0, ns.
    pub wall_offset_ns: AtomicU64,
}

const _: () = assert!(size_of::<TimePage>() == 40);

/// One consistent reading of the [`TimePage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSnapshot {
    /// See [`TimePage::generation`].
    pub generation: u32,
    /// See [`TimePage::tsc_base`].
    pub tsc_base: u64,
    /// See [`TimePage::monotonic_base_ns`].
    pub monotonic_base_ns: u64,
    /// See [`TimePage::ns_per_tick`].
    pub ns_per_tick: u64,
    /// See [`TimePage::wall_offset_ns`].
    pub wall_offset_ns: u64,
}

impl TimeSnapshot {
    /// Monotonic time at TSC value `tsc`, ns. TSC values before the base count as the base.
    #[must_use]
    pub fn monotonic_ns(&self, tsc: u64) -> u64 {
        let ticks = u128::from(tsc.saturating_sub(self.tsc_base));
        let ns = (ticks * u128::from(self.ns_per_tick)) >> 32;
        self.monotonic_base_ns.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl TimePage {
    /// Reads the page, again and again while the host writes. A host that never finishes writing
    /// ends the attempt after a bounded number of tries with whatever was read last.
    #[must_use]
    pub fn read(&self) -> TimeSnapshot {
        const TRIES: u32 = 1 << 20;
        let mut snapshot = self.read_fields();
        for _ in 0..TRIES {
            // Acquire: the fields are read after the first sequence number ...
            let before = self.sequence.load(Ordering::Acquire);
            snapshot = self.read_fields();
            // ... and, by the fence, before the second.
            core::sync::atomic::fence(Ordering::Acquire);
            let after = self.sequence.load(Ordering::Relaxed);
            if before == after && before.is_multiple_of(2) {
                break;
            }
            core::hint::spin_loop();
        }
        snapshot
    }

    /// Publishes new values. One writer at a time.
    pub fn publish(&self, snapshot: &TimeSnapshot) {
        let sequence = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(sequence, Ordering::Relaxed);
        // Release fence: nobody sees a new field with the old, even sequence number.
        core::sync::atomic::fence(Ordering::Release);
        self.generation.store(snapshot.generation, Ordering::Relaxed);
        self.tsc_base.store(snapshot.tsc_base, Ordering::Relaxed);
        self.monotonic_base_ns.store(snapshot.monotonic_base_ns, Ordering::Relaxed);
        self.ns_per_tick.store(snapshot.ns_per_tick, Ordering::Relaxed);
        self.wall_offset_ns.store(snapshot.wall_offset_ns, Ordering::Relaxed);
        // Release: whoever sees the next even number sees the fields.
        self.sequence.store(sequence.wrapping_add(1), Ordering::Release);
    }

    fn read_fields(&self) -> TimeSnapshot {
        TimeSnapshot {
            generation: self.generation.load(Ordering::Relaxed),
            tsc_base: self.tsc_base.load(Ordering::Relaxed),
            monotonic_base_ns: self.monotonic_base_ns.load(Ordering::Relaxed),
            ns_per_tick: self.ns_per_tick.load(Ordering::Relaxed),
            wall_offset_ns: self.wall_offset_ns.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> TimeSnapshot {
        TimeSnapshot {
            generation: 1,
            tsc_base: 1000,
            monotonic_base_ns: 5_000,
            ns_per_tick: 1 << 31, // half a nanosecond per tick
            wall_offset_ns: 7,
        }
    }

    #[test]
    fn what_is_published_is_read() {
        let page = TimePage::default();
        page.publish(&snapshot());
        assert_eq!(page.read(), snapshot());
        assert_eq!(page.sequence.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn time_follows_the_slope_and_saturates() {
        let snapshot = snapshot();
        assert_eq!(snapshot.monotonic_ns(1000), 5_000);
        assert_eq!(snapshot.monotonic_ns(3000), 6_000);
        assert_eq!(snapshot.monotonic_ns(0), 5_000);
        let steep = TimeSnapshot { ns_per_tick: u64::MAX, ..snapshot };
        assert_eq!(steep.monotonic_ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_writer_stuck_in_the_middle_does_not_hang_the_reader() {
        let page = TimePage::default();
        page.publish(&snapshot());
        page.sequence.store(3, Ordering::Relaxed);
        assert_eq!(page.read(), snapshot());
    }
}
