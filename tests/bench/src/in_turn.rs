//! A program's pieces, run natively and in guests in turn.
use crate::host::Host;
use crate::program::{Program, Run, Runner};
use crate::session::Session;
use anyhow::{Result, ensure};

/// How long, and how often, each has its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) seconds: f64,
    pub(crate) count: u32,
}

/// One timed run of a piece.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) runner: Runner,
    pub(crate) run: Run,
    /// Time of a pass, s.
    pub(crate) pass_s: f64,
    /// The same of the native run of this round.
    pub(crate) native_s: f64,
}

/// What pieces can run on here, native first.
pub(crate) fn runners() -> Vec<Runner> {
    let guests = Host::available().into_iter().map(Runner::Guest);
    std::iter::once(Runner::Native).chain(guests).collect()
}

/// Runs a piece on each runner in turn, and shows `each` what came of it. All have to give the same checksum.
pub(crate) fn in_turn(
    session: &mut Session,
    (program, piece): (&Program<'_>, &str),
    runners: &[Runner],
    rounds: Rounds,
    mut each: impl FnMut(&mut Session, &Turn),
) -> Result<()> {
    let mut plans = Vec::new();
    let mut checksum = None;
    for &runner in runners {
        let trial = runner.run(program, piece, 1)?;
        let expected = *checksum.get_or_insert(trial.checksum);
        ensure!(trial.checksum == expected, "{piece}: {} has another checksum", runner.name());
        plans.push((runner, passes(rounds.seconds, trial)));
    }
    for _ in 0..rounds.count {
        let mut native_s = None;
        for &(runner, passes) in &plans {
            session.noise.calibrate()?;
            let run = runner.run(program, piece, passes)?;
            let pass_s = run.seconds / f64::from(passes);
            let native_s = *native_s.get_or_insert(pass_s);
            each(session, &Turn { runner, run, pass_s, native_s });
        }
    }
    Ok(())
}

/// How many passes take about `seconds` if one was the run `trial`. Both clocks are asked: when a pass is
/// short, its marks may be read together.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn passes(seconds: f64, trial: Run) -> u32 {
    (seconds / trial.seconds.max(trial.own_seconds)).ceil() as u32
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
