//! Computation in a guest against the same code, compiled alike, as a native program.
use crate::host::Host;
use crate::plot::{self, Plot, PlotRow, Reference};
use crate::program::{Program, Run, Runner};
use crate::session::Session;
use anyhow::{Result, ensure};

/// What is said of others: the name, the words, and the range of ratios to native.
const REFERENCES: [(&str, &str, [f64; 2]); 2] = [
    ("cpu: overhead, Xen's claim", "2 to 5 %", [1.02, 1.05]),
    ("cpu: overhead, emulation's claim", "20 to 25 %", [1.20, 1.25]),
];

const PROGRAM: Program<'static> =
    Program { native: "cpu-native", image: "cpu-kernels", store: None };

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("cpu: a pass of each kernel, and how much longer it takes than natively");
    let hosts = Host::available();
    let runners: Vec<_> =
        std::iter::once(Runner::Native).chain(hosts.into_iter().map(Runner::Guest)).collect();
    for kernel in paravane_kernels::names() {
        compare(session, kernel, &runners)?;
    }
    for (name, words, _) in REFERENCES {
        session.figures.reference(name, words);
    }
    plot(session, &runners);
    Ok(())
}

/// Runs a kernel on each runner in turn.
fn compare(session: &mut Session, kernel: &str, runners: &[Runner]) -> Result<()> {
    let seconds = session.pick(0.05, 1.5);
    let mut plans = Vec::new();
    let mut checksum = None;
    for &runner in runners {
        let trial = runner.run(&PROGRAM, kernel, 1)?;
        let expected = *checksum.get_or_insert(trial.checksum);
        ensure!(trial.checksum == expected, "{kernel}: {} computes otherwise", runner.name());
        plans.push((runner, passes(seconds, trial)));
    }
    for _ in 0..session.pick(1, 9) {
        let mut native_s = None;
        for &(runner, passes) in &plans {
            session.noise.calibrate()?;
            let run = runner.run(&PROGRAM, kernel, passes)?;
            let pass_s = run.seconds / f64::from(passes);
            let native_s = *native_s.get_or_insert(pass_s);
            session.figures.sample(&figure(kernel, runner), "ms", pass_s * 1e3);
            if runner == Runner::Native {
                session.noise.yardstick(&format!("{kernel}, native,"), pass_s);
                continue;
            }
            let percent = |ratio: f64| (ratio - 1.0) * 100.0;
            session.figures.sample(&overhead(kernel, runner), "%", percent(pass_s / native_s));
            let clock = format!("cpu: guest's clock against the host's, {}", runner.name());
            session.figures.sample(&clock, "%", percent(run.own_seconds / run.seconds));
        }
    }
    Ok(())
}

/// How many passes take about `seconds` if one was the run `trial`. Both clocks are asked: when a pass is
/// short, its marks may be read together.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
pub(crate) fn passes(seconds: f64, trial: Run) -> u32 {
    (seconds / trial.seconds.max(trial.own_seconds)).ceil() as u32
}

fn figure(kernel: &str, runner: Runner) -> String {
    format!("cpu: pass of {kernel}, {}", runner.name())
}

fn overhead(kernel: &str, runner: Runner) -> String {
    format!("cpu: overhead, {kernel}, {}", runner.name())
}

fn plot(session: &mut Session, runners: &[Runner]) {
    let title = "Time of a computation in a guest, relative to native".to_owned();
    let references = REFERENCES.iter().map(|&(name, words, range)| {
        let claim = name.rsplit(", ").next().unwrap_or(name);
        Reference { label: format!("{claim}: {words}"), range }
    });
    let mut plot = Plot { title, rows: Vec::new(), references: references.collect() };
    for kernel in paravane_kernels::names() {
        for &runner in runners {
            let Some(percent) = session.figures.spread(&overhead(kernel, runner)) else { continue };
            let spread = percent.map(|percent| 1.0 + percent / 100.0);
            plot.rows.push(PlotRow { label: format!("{kernel}, {}", runner.name()), spread });
        }
    }
    session.plot("cpu", plot::svg(&plot));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_fill_the_time_and_are_never_none() {
        let trial = |seconds, own_seconds| Run { seconds, own_seconds, checksum: 0 };
        let found = [trial(0.1, 0.05), trial(1e-6, 0.1), trial(4.0, 4.0)];
        assert_eq!(found.map(|trial| passes(1.5, trial)), [15, 15, 1]);
    }
}
