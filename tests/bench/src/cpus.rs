//! Which CPU runs what.
use anyhow::{Context, Result};
use std::io;
use std::mem::zeroed;

/// The CPU of the measured programs.
pub(crate) fn measured() -> usize {
    allowed().last().copied().unwrap_or(0)
}

/// The CPU of those who put load on them; another one, if there are two.
pub(crate) fn clients() -> usize {
    allowed().first().copied().unwrap_or(0)
}

/// Moves this thread to a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    // SAFETY: an all-zero set of CPUs is an empty one.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: the set is ours, and CPU_SET checks its bound.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as long as stated.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("pinning to a CPU") }
}

/// The CPUs that this thread may use, in order.
fn allowed() -> Vec<usize> {
    // SAFETY: as in `pin`.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: the set is as long as stated. If this fails, it stays empty.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    // SAFETY: CPU_ISSET only reads the set, within its bound.
    let has = |&cpu: &usize| unsafe { libc::CPU_ISSET(cpu, &set) };
    (0..size_of_val(&set) * 8).filter(has).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_one_cpu() {
        let cpu = measured();
        let after = std::thread::spawn(move || pin(cpu).map(|()| allowed())).join().unwrap();
        assert_eq!(after.unwrap(), [cpu]);
        assert!(clients() <= cpu);
    }
}
