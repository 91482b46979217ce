//! What processes and the machine use, from `/proc`.
use anyhow::{Context, Result};
use std::fs;

/// The machine at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// Memory that could be had without swapping, bytes.
    pub(super) available_bytes: u64,
    /// Time that all processors were busy since the machine started, s.
    pub(super) busy_s: f64,
}

/// What processes have used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Processor time of all threads, s.
    pub(super) cpu_s: f64,
}

impl Machine {
    pub(super) fn now() -> Result<Self> {
        let memory = read("/proc/meminfo")?;
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let available_bytes = available.and_then(kibibytes).context("MemAvailable")?;
        let busy_s = busy_s(&read("/proc/stat")?).context("/proc/stat")?;
        Ok(Self { available_bytes, busy_s })
    }
}

/// The time that processors were not idle, from proc_stat(5).
fn busy_s(stat: &str) -> Option<f64> {
    const TICKS_PER_S: f64 = 100.0;
    let line = stat.lines().next()?;
    // user nice system idle iowait irq softirq steal; guest time is in user time.
    let times: Vec<f64> =
        line.split_whitespace().skip(1).take(8).map_while(|time| time.parse().ok()).collect();
    let idle = times.get(3)? + times.get(4)?;
    Some((times.iter().sum::<f64>() - idle) / TICKS_PER_S)
}

impl Usage {
    /// Processes that have ended count as nothing.
    pub(super) fn of(processes: &[u32]) -> Result<Self> {
        let mut cpu_s = 0.0;
        for pid in processes {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                cpu_s += cpu_time_s(&fs::read_to_string(thread.path().join("schedstat"))?)
                    .context("schedstat")?;
            }
        }
        Ok(Self { cpu_s })
    }
}

/// Time that a thread ran: the first number of its `schedstat`, in nanoseconds.
fn cpu_time_s(schedstat: &str) -> Option<f64> {
    Some(schedstat.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Proportional set size of a process, bytes; `None` if this user may not look.
pub(super) fn memory_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:")).and_then(kibibytes)
}

fn kibibytes(text: &str) -> Option<u64> {
    Some(text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(busy_s("cpu  10 20 30 4000 500 5 5 30 7 7\ncpu0 1"), Some(1.0));
        assert_eq!(cpu_time_s("1500000000 5 6\n"), Some(1.5));
        assert_eq!(kibibytes("     12 kB"), Some(12 * 1024));
        assert_eq!([busy_s("intr 1"), cpu_time_s("")], [None; 2]);
    }

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        assert!(Usage::of(&[own]).unwrap().cpu_s > 0.0);
        assert!(memory_bytes(own).unwrap() > 0);
        assert!(Machine::now().unwrap().available_bytes > 0);
    }
}
