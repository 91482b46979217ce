//! Reads, writes and flushes through the guest's block device, against the same done natively to the same
//! file, which the operating system keeps in its cache; and what the least of calls costs.
use crate::in_turn::{Rounds, Turn, in_turn, runners};
use crate::plot::{Plot, PlotRow, svg};
use crate::program::{Program, Runner};
use crate::session::Session;
use anyhow::{Context, Result};
use paravane_loads::{LOADS, Load, STORE_LEN};
use std::fs::File;
use std::io::Write;
use std::path::Path;

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("block: an operation of each load, and what it costs more or less than natively");
    let folder = tempfile::tempdir_in(crate::server::target())?;
    let store = folder.path().join("store");
    fill(&store).with_context(|| format!("writing {}", store.display()))?;
    let program = Program { native: "io-native", image: "io-loads", store: Some(&store) };
    let runners = runners();
    for load in LOADS {
        compare(session, load, &program, &runners)?;
    }
    plot(session, &runners);
    Ok(())
}

/// Makes the file, with blocks that differ, and has it on the disk so that nothing is left to be written.
fn fill(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for block in 0..STORE_LEN >> 12 {
        file.write_all(&[block.to_le_bytes()[0]; 4096])?;
    }
    file.sync_all()
}

/// Runs a load on each runner in turn.
fn compare(
    session: &mut Session,
    load: Load,
    program: &Program<'_>,
    runners: &[Runner],
) -> Result<()> {
    let rounds = Rounds { seconds: session.pick(0.02, 1.0), count: session.pick(1, 7) };
    in_turn(session, (program, load.name()), runners, rounds, |session, turn| {
        let &Turn { runner, pass_s, native_s, .. } = turn;
        let (unit, value) = quantity(load, pass_s);
        session.figures.sample(&figure(load, runner), unit, value);
        match runner {
            // What the medium takes is not the machine's noise.
            Runner::Native if waits_for_medium(load) => {}
            Runner::Native => {
                session.noise.yardstick(&format!("{}, native,", load.name()), pass_s);
            }
            Runner::Guest(_) => {
                session.figures.sample(&ratio(load, runner), "x", pass_s / native_s);
            }
        }
    })
}

fn waits_for_medium(load: Load) -> bool {
    matches!(load, Load::Commit | Load::SequentialWrite)
}

/// What is reported of a pass.
#[expect(clippy::cast_precision_loss, reason = "sizes are small")]
fn quantity(load: Load, pass_s: f64) -> (&'static str, f64) {
    let size = load.size() as f64;
    if load.is_sequential() { ("GB/s", size / pass_s / 1e9) } else { ("us", pass_s / size * 1e6) }
}

fn figure(load: Load, runner: Runner) -> String {
    let what = if load.is_sequential() { "" } else { "one of " };
    format!("block: {what}{}, {}", load.name(), runner.name())
}

fn ratio(load: Load, runner: Runner) -> String {
    format!("block: time of {}, {} / native", load.name(), runner.name())
}

fn plot(session: &mut Session, runners: &[Runner]) {
    let title = "Time of disk operations in a guest, relative to native".to_owned();
    let mut plot = Plot { title, ..Plot::default() };
    for load in LOADS {
        for &runner in runners {
            let Some(spread) = session.figures.spread(&ratio(load, runner)) else { continue };
            plot.rows
                .push(PlotRow { label: format!("{}, {}", load.name(), runner.name()), spread });
        }
    }
    session.plot("block", svg(&plot));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_its_part_of_a_pass() {
        assert_eq!(quantity(Load::RandomRead, 256e-6), ("us", 1.0));
        let (unit, value) = quantity(Load::SequentialRead, 0.1);
        assert!(unit == "GB/s" && (2.68..2.69).contains(&value));
    }
}
