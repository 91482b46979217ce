//! Whether the machine was quiet enough for its figures to mean something.
use crate::cpus::{measured, pin};
use crate::figures::quartiles;
use anyhow::{Context, Result};
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What `--help` says about all this.
pub(crate) const HELP: &str = "\
When a session is too noisy:
Between the runs, a fixed loop of integer arithmetic is timed on the CPU of the measured programs. A session
counts as too noisy
  - if the loop was ready to run but another program had its CPU for more than 2 % of the loop's time;
  - if the hypervisor below this machine took more than 1 % of the CPUs' time (steal in /proc/stat);
  - if the loop, or a native program that others are compared with, took different time for the same work:
    the middle half of its times (between the quartiles) spans more than 5 % of the median.
Then `Too noisy:` and the reason are printed and written in place of the table and the plots, and the exit
status is 1. The raw figures are kept. With --quick the reason is printed, and nothing is refused.";

const WAITED_MAX: f64 = 0.02;
const STEAL_MAX: f64 = 0.01;
const SPREAD_MAX: f64 = 0.05;

/// For servers to close the connections of the last run, and for the kernel to take down what has ended.
const SETTLE: Duration = Duration::from_millis(200);

/// Fewer times than this say nothing about their spread.
const TIMES_MIN: usize = 4;

/// What is known about the quiet of a session.
#[derive(Debug)]
pub(crate) struct Noise {
    at_start: CpuTimes,
    loops: Vec<Loop>,
    yardsticks: Vec<(String, Vec<f64>)>,
}

/// One run of the loop.
#[derive(Debug, Clone, Copy)]
struct Loop {
    wall_s: f64,
    cpu_s: f64,
}

/// What all CPUs did since the machine started, in clock ticks.
#[derive(Debug, Clone, Copy)]
struct CpuTimes {
    all: f64,
    steal: f64,
}

impl Noise {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { at_start: CpuTimes::now()?, loops: Vec::new(), yardsticks: Vec::new() })
    }

    /// Times the loop once, when what ran before has had time to tidy up; to be called between runs.
    pub(crate) fn calibrate(&mut self) -> Result<()> {
        std::thread::sleep(SETTLE);
        let cpu = measured();
        let timed = std::thread::spawn(move || pin(cpu).map(|()| time_loop())).join();
        self.loops.push(timed.map_err(|_| anyhow::anyhow!("the loop panicked"))??);
        Ok(())
    }

    /// Notes how long a native program took for the work `name`, which is the same each time.
    pub(crate) fn yardstick(&mut self, name: &str, seconds: f64) {
        match self.yardsticks.iter_mut().find(|(known, _)| known == name) {
            Some((_, times)) => times.push(seconds),
            None => self.yardsticks.push((name.to_owned(), vec![seconds])),
        }
    }

    /// Why the session is too noisy; empty if it is not.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let steal = CpuTimes::now().map_or(0.0, |now| now.steal_since(self.at_start));
        self.judge(steal)
    }

    fn judge(&self, steal: f64) -> Vec<String> {
        let mut complaints = Vec::new();
        let wall: f64 = self.loops.iter().map(|run| run.wall_s).sum();
        let cpu: f64 = self.loops.iter().map(|run| run.cpu_s).sum();
        let waited = if wall > 0.0 { 1.0 - cpu / wall } else { 0.0 };
        let mut check = |found: f64, max: f64, what: &str| {
            if found > max {
                let [found, max] = [found, max].map(|share| share * 100.0);
                complaints.push(format!("{what} {found:.1} %, more than {max:.0} %"));
            }
        };
        check(waited, WAITED_MAX, "other programs took the measured CPU for");
        check(steal, STEAL_MAX, "the hypervisor took the CPUs for");
        let loops = self.loops.iter().map(|run| run.wall_s).collect();
        let loops = ("the calibration loop".to_owned(), loops);
        for (name, times) in std::iter::once(&loops).chain(&self.yardsticks) {
            if times.len() >= TIMES_MIN {
                let [low, median, high] = quartiles(times);
                let what = format!("the time of {name} varied by");
                check((high - low) / median, SPREAD_MAX, &what);
            }
        }
        complaints
    }
}

impl CpuTimes {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        // proc_stat(5): user nice system idle iowait irq softirq steal; guest time is in user time.
        let times: Vec<f64> =
            line.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        Ok(Self { all: times.iter().sum(), steal: times.get(7).copied().unwrap_or(0.0) })
    }

    /// The share of time that was stolen since.
    fn steal_since(self, earlier: Self) -> f64 {
        (self.steal - earlier.steal) / (self.all - earlier.all).max(1.0)
    }
}

/// About 20 ms of multiplications that wait for each other: only the clock rate and the loss of the
/// CPU change how long they take.
fn time_loop() -> Loop {
    let (start, cpu_start) = (Instant::now(), thread_time());
    let mut x = 1u64;
    for _ in 0..12_000_000 {
        x = black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1);
    }
    let cpu_s = (thread_time().saturating_sub(cpu_start)).as_secs_f64();
    Loop { wall_s: start.elapsed().as_secs_f64(), cpu_s }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result goes to a variable here.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(loops: &[(f64, f64)], yardstick: &[f64]) -> Noise {
        Noise {
            at_start: CpuTimes { all: 0.0, steal: 0.0 },
            loops: loops.iter().map(|&(wall_s, cpu_s)| Loop { wall_s, cpu_s }).collect(),
            yardsticks: vec![("nginx".to_owned(), yardstick.to_vec())],
        }
    }

    #[track_caller]
    fn check(noise: &Noise, steal: f64, expect: &[&str]) {
        assert_eq!(noise.judge(steal), expect);
    }

    #[test]
    fn quiet_sessions_pass() {
        check(&session(&[(1.0, 1.0); 8], &[2.0, 2.01, 2.02, 2.0, 9.0]), 0.005, &[]);
        check(&session(&[], &[]), 0.0, &[]);
    }

    #[test]
    fn each_kind_of_noise_is_named() {
        let quiet = [(1.0, 1.0); 8];
        let waited = "other programs took the measured CPU for 10.0 %, more than 2 %";
        check(&session(&[(1.0, 0.9); 8], &[]), 0.0, &[waited]);
        let stolen = "the hypervisor took the CPUs for 3.0 %, more than 1 %";
        check(&session(&quiet, &[]), 0.03, &[stolen]);
        let varied = "the time of nginx varied by 40.0 %, more than 5 %";
        check(&session(&quiet, &[0.8, 0.8, 1.0, 1.2, 1.2]), 0.0, &[varied]);
        let drift = [[(1.0, 1.0); 4], [(1.3, 1.3); 4]].concat();
        let varied = "the time of the calibration loop varied by 26.1 %, more than 5 %";
        check(&session(&drift, &[]), 0.0, &[varied]);
    }

    #[test]
    fn the_loop_takes_time() {
        let Loop { wall_s, cpu_s } = time_loop();
        assert!(cpu_s > 0.0 && wall_s > 0.0);
    }

    #[test]
    fn times_of_the_cpus_only_grow() {
        let earlier = CpuTimes::now().unwrap();
        let now = CpuTimes::now().unwrap();
        assert!(now.all >= earlier.all && earlier.all > 0.0);
    }
}
