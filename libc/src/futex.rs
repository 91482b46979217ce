//! `syscall`, which std makes for its locks: futexes, on which fibers wait for each other.
use crate::errno::{EAGAIN, EINVAL, ENOSYS, ETIMEDOUT, fail};
use crate::single::Single;
use crate::time::{Timespec, until_ns};
use alloc::vec::Vec;
use core::ffi::{c_int, c_long};
use core::future::poll_fn;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Poll, Waker};
use core::time::Duration;

const SYS_FUTEX: c_long = 202;

/// `FUTEX_WAKE`.
const WAKE: usize = 1;
/// `FUTEX_WAIT_BITSET`: like `FUTEX_WAIT`, but the timeout is a point in time.
const WAIT_BITSET: usize = 9;
/// `FUTEX_PRIVATE_FLAG`: means nothing where there is one address space.
const PRIVATE: usize = 128;
/// `FUTEX_CLOCK_REALTIME`: the point in time is one of the wall clock.
const CLOCK_REALTIME: usize = 256;

/// A system call as std makes it: all but the futex calls of its locks fail.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn syscall(
    number: c_long,
    word: *mut u32,
    operation: usize,
    value: u32,
    timeout: *const Timespec,
) -> c_long {
    if number != SYS_FUTEX {
        return c_long::from(fail(ENOSYS));
    }
    c_long::from(match operation & !(PRIVATE | CLOCK_REALTIME) {
        WAKE => QUEUE.with(|queue| queue.wake(word.addr(), value)),
        WAIT_BITSET => {
            let clock = c_int::from(operation & CLOCK_REALTIME == 0);
            // SAFETY: by the caller, as Linux has it: an aligned word, and a timeout or null.
            unsafe { wait(AtomicU32::from_ptr(word), value, clock, timeout.as_ref()) }
        }
        _ => fail(ENOSYS),
    })
}

/// A fiber that waits for a word to change.
struct Waiter {
    word: usize,
    ticket: u64,
    waker: Waker,
}

/// Who waits, the longest first.
struct Queue {
    waiters: Vec<Waiter>,
    next_ticket: u64,
}

static QUEUE: Single<Queue> = Single::new(Queue { waiters: Vec::new(), next_ticket: 0 });

impl Queue {
    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn add(&mut self, word: usize, ticket: u64, waker: &Waker) {
        self.waiters.push(Waiter { word, ticket, waker: waker.clone() });
    }

    fn remove(&mut self, ticket: u64) {
        self.waiters.retain(|waiter| waiter.ticket != ticket);
    }

    /// Notes the waker of a waiter; false if it was woken and is here no more.
    fn still_waits(&mut self, ticket: u64, waker: &Waker) -> bool {
        let waiter = self.waiters.iter_mut().find(|waiter| waiter.ticket == ticket);
        waiter.map(|waiter| waiter.waker.clone_from(waker)).is_some()
    }

    /// Wakes at most `count` of those that wait for `word`; returns how many.
    fn wake(&mut self, word: usize, count: u32) -> c_int {
        let mut left = count.min(c_int::MAX.unsigned_abs());
        let before = left;
        self.waiters.retain(|waiter| {
            let wakes = waiter.word == word && left > 0;
            if wakes {
                left -= 1;
                waiter.waker.wake_by_ref();
            }
            !wakes
        });
        (before - left).cast_signed()
    }
}

fn wait(word: &AtomicU32, value: u32, clock: c_int, timeout: Option<&Timespec>) -> c_int {
    if word.load(Ordering::Relaxed) != value {
        return fail(EAGAIN);
    }
    let Some(timeout) = timeout else {
        paravane_kernel::run(woken(word));
        return 0;
    };
    let Some(ns) = until_ns(clock, *timeout) else { return fail(EINVAL) };
    let limit = Duration::from_nanos(ns);
    match paravane_kernel::run(paravane_kernel::time::timeout(limit, woken(word))) {
        Ok(()) => 0,
        Err(_) => fail(ETIMEDOUT),
    }
}

/// Completes when somebody wakes those who wait for `word`.
async fn woken(word: &AtomicU32) {
    let place = Place { ticket: QUEUE.with(Queue::ticket) };
    let mut waits = false;
    poll_fn(|context| {
        QUEUE.with(|queue| {
            if !waits {
                queue.add(word.as_ptr().addr(), place.ticket, context.waker());
                waits = true;
            } else if !queue.still_waits(place.ticket, context.waker()) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
    })
    .await;
}

/// A place in the queue, left when dropped, as at a timeout.
struct Place {
    ticket: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        QUEUE.with(|queue| queue.remove(self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue with waiters on `words`, which get the tickets 1, 2, ...
    fn queue(words: &[usize]) -> Queue {
        let mut queue = Queue { waiters: Vec::new(), next_ticket: 0 };
        for &word in words {
            let ticket = queue.ticket();
            queue.add(word, ticket, Waker::noop());
        }
        queue
    }

    fn waiting(queue: &mut Queue) -> Vec<u64> {
        (0..10).filter(|&ticket| queue.still_waits(ticket, Waker::noop())).collect()
    }

    #[test]
    fn a_wake_takes_the_longest_waiters_of_its_word() {
        let mut queue = queue(&[0x10, 0x20, 0x10, 0x10]);
        assert_eq!(queue.wake(0x10, 2), 2);
        assert_eq!(waiting(&mut queue), [2, 4]);
        assert_eq!(queue.wake(0x30, 1), 0);
        assert_eq!(queue.wake(0x10, u32::MAX), 1);
        assert_eq!(waiting(&mut queue), [2]);
    }

    #[test]
    fn who_leaves_is_not_woken() {
        let mut queue = queue(&[0x10, 0x10]);
        queue.remove(1);
        assert_eq!(queue.wake(0x10, 1), 1);
        assert_eq!(waiting(&mut queue), []);
    }
}
