//! Computation in a guest against the same code, compiled alike, as a native program.
use crate::in_turn::{Rounds, Turn, in_turn, runners};
use crate::plot::{self, Plot, PlotRow, Reference};
use crate::program::{Program, Runner};
use crate::session::Session;
use anyhow::Result;

/// What is said of others: the name, the words, and the range of ratios to native.
const REFERENCES: [(&str, &str, [f64; 2]); 2] = [
    ("cpu: overhead, Xen's claim", "2 to 5 %", [1.02, 1.05]),
    ("cpu: overhead, emulation's claim", "20 to 25 %", [1.20, 1.25]),
];

const PROGRAM: Program<'static> =
    Program { native: "cpu-native", image: "cpu-kernels", store: None };

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("cpu: a pass of each kernel, and how much longer it takes than natively");
    let runners = runners();
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
    let rounds = Rounds { seconds: session.pick(0.05, 1.5), count: session.pick(1, 9) };
    in_turn(session, (&PROGRAM, kernel), runners, rounds, |session, turn| {
        let &Turn { runner, run, pass_s, native_s } = turn;
        session.figures.sample(&figure(kernel, runner), "ms", pass_s * 1e3);
        if runner == Runner::Native {
            session.noise.yardstick(&format!("{kernel}, native,"), pass_s);
            return;
        }
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        session.figures.sample(&overhead(kernel, runner), "%", percent(pass_s / native_s));
        let clock = format!("cpu: guest's clock against the host's, {}", runner.name());
        session.figures.sample(&clock, "%", percent(run.own_seconds / run.seconds));
    })
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
