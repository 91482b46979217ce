//! Whether the machine was quiet enough for its figures to mean something.
use crate::cpus::{measured, pin};
use crate::figures::quartiles;
use anyhow::{Context, Result};
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What `--help` says about all this.
pub(crate) const HELP: &str = "\
Too noisy:
Between the runs, a fixed loop of integer arithmetic is timed on the CPU of the measured programs. A part, or a
load of the parts net and web, counts as too noisy
  - if the loop was ready to run but another program had its CPU for more than 2 % of the loop's time;
  - if the hypervisor below this machine took more than 1 % of the CPUs' time (steal in /proc/stat);
  - if the loop, or a native program that others are compared with, took different time for the same work:
    the middle half of its times (between the quartiles) spans more than 5 % of the median, in the parts net
    and web 10 %, where the ratios come from runs that stood side by side;
  - in the parts net and web, for one server alone: if the middle half of its ratios to the native server,
    one from each round, spans more than 10 % of the median.
Spreads are judged from four rounds on. What was too noisy is named, with the reason, in place of its figures
and plots; the raw figures are kept. The exit status is 1 if this happened to a part other than net and web, or
to the headline of web, keepalive-128 on process-tap at any number of connections; or if anything failed, but
for the server emulation-tap, of which nothing is promised. With --quick the reason is printed, and nothing is refused.";

const WAITED_MAX: f64 = 0.02;
const STEAL_MAX: f64 = 0.01;
const SPREAD_MAX: f64 = 0.05;

/// As `SPREAD_MAX`, for what is only compared with what ran beside it, and for the ratios.
const PAIRED_MAX: f64 = 0.10;

/// For servers to close the connections of the last run, and for the kernel to take down what has ended.
const SETTLE: Duration = Duration::from_millis(200);

/// Fewer times than this say nothing about their spread.
const TIMES_MIN: usize = 4;

/// What is known about the quiet of a part, or of a load.
#[derive(Debug)]
pub(crate) struct Noise {
    at_start: CpuTimes,
    spread_max: f64,
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
        Self::with(SPREAD_MAX)
    }

    /// Where nothing but ratios of runs side by side is of interest.
    pub(crate) fn paired() -> Result<Self> {
        Self::with(PAIRED_MAX)
    }

    fn with(spread_max: f64) -> Result<Self> {
        let (loops, yardsticks) = (Vec::new(), Vec::new());
        Ok(Self { at_start: CpuTimes::now()?, spread_max, loops, yardsticks })
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

    /// Why this was too noisy; empty if it was not, or if nothing was timed.
    pub(crate) fn complaints(&self) -> Vec<String> {
        if self.loops.is_empty() && self.yardsticks.is_empty() {
            return Vec::new();
        }
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
            complaints.extend(varied(times, self.spread_max, &format!("the time of {name}")));
        }
        complaints
    }
}

/// What speaks against the median of one server's ratios to another, one from each round.
pub(crate) fn against_ratios(ratios: &[f64]) -> Option<String> {
    varied(ratios, PAIRED_MAX, "the ratio")
}

/// Says so if the middle half of the samples spans more than a share of their median.
fn varied(samples: &[f64], max: f64, what: &str) -> Option<String> {
    let [low, median, high] = quartiles(samples);
    let share = (high - low) / median;
    (samples.len() >= TIMES_MIN && share > max).then(|| {
        let [share, max] = [share, max].map(|share| share * 100.0);
        format!("{what} varied by {share:.1} %, more than {max:.0} %")
    })
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
            spread_max: SPREAD_MAX,
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
    fn a_pair_may_drift_together_further_than_a_program_alone() {
        let mut noise = session(&[(1.0, 1.0); 8], &[1.0, 1.0, 1.08, 1.08]);
        check(&noise, 0.0, &["the time of nginx varied by 7.7 %, more than 5 %"]);
        noise.spread_max = PAIRED_MAX;
        check(&noise, 0.0, &[]);
    }

    #[test]
    fn ratios_that_spread_are_named_from_four_rounds_on() {
        assert_eq!(against_ratios(&[1.5, 1.52, 1.55, 1.6, 9.0]), None);
        assert_eq!(against_ratios(&[1.0, 2.0, 3.0]), None);
        let varied = "the ratio varied by 66.7 %, more than 10 %".to_owned();
        assert_eq!(against_ratios(&[1.0, 1.0, 2.0, 2.0]), Some(varied));
    }

    #[test]
    fn where_nothing_was_timed_nothing_can_be_noisy() {
        assert_eq!(Noise::new().unwrap().complaints(), Vec::<String>::new());
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
