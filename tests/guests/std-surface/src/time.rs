//! Clocks and sleep.
use crate::{Check, assert_fails};
use std::mem::zeroed;
use std::ptr::null_mut;
use std::time::{Duration, Instant, SystemTime};

pub(crate) const CHECKS: &[Check] = &[
    ("Instant", instant),
    ("SystemTime", system_time),
    ("sleep", sleep),
    ("sleep until", sleep_until),
    ("clock_gettime", clock_gettime),
];

fn instant() {
    let times: Vec<Instant> = (0..1000).map(|_| Instant::now()).collect();
    assert!(times.is_sorted(), "time never steps back");
}

/// The host's clock is right by a few decades at least.
fn system_time() {
    let days = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86400;
    assert!((20_000..60_000).contains(&days), "{days} days since 1970");
}

fn sleep() {
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    assert!(before.elapsed() >= Duration::from_millis(20));
}

fn sleep_until() {
    let before = Instant::now();
    // SAFETY: all pointers are to variables here, and null where C allows it.
    unsafe {
        let mut when = zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut when), 0);
        when.tv_sec += 1;
        when.tv_nsec -= 990_000_000;
        if when.tv_nsec < 0 {
            when.tv_sec -= 1;
            when.tv_nsec += 1_000_000_000;
        }
        let sleep =
            |clock| libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &raw const when, null_mut());
        assert_eq!(sleep(libc::CLOCK_MONOTONIC), 0);
        assert!(before.elapsed() >= Duration::from_millis(10));
        assert_eq!(sleep(99), libc::EINVAL);
    }
}

fn clock_gettime() {
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
        // SAFETY: the result goes to a variable here.
        let (status, time) = unsafe {
            let mut time: libc::timespec = zeroed();
            (libc::clock_gettime(clock, &raw mut time), time)
        };
        assert!(status == 0 && (0..1_000_000_000).contains(&time.tv_nsec));
    }
    // SAFETY: as above.
    let status = unsafe { libc::clock_gettime(99, &mut zeroed()) };
    assert_fails(status, libc::EINVAL);
}
