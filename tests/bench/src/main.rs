//! Paired measurements of whole systems, started by `scripts/bench`.
//!
//! What is compared runs in turn (A B A B ...) in one session, so that a machine whose speed drifts
//! drifts for all; the figures to quote are medians, and ratios of runs that stood side by side.
mod appliance;
mod boot;
mod conditions;
mod cpu;
mod cpus;
mod figures;
mod host;
mod memory;
mod noise;
mod plot;
mod program;
mod server;
mod session;
mod web;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use session::Session;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Exec of `paravane` to the first HTTP 200.
    Boot,
    /// Pieces of pure computation in a guest, against the same compiled natively.
    Cpu,
    /// Size of the web image, memory of an idle appliance.
    Memory,
    /// Requests per second against nginx, small file, keep-alive.
    Web,
}

/// Measures the release build against native programs on this machine.
#[derive(Debug, Parser)]
#[command(after_help = noise::HELP)]
struct Arguments {
    /// What to measure; everything by default.
    parts: Vec<Part>,
    /// Few and short runs: shows that the benchmarks work, not how fast anything is.
    #[arg(long)]
    quick: bool,
    /// Where results.json, results.md and a plot PART.svg go.
    #[arg(long, default_value = "target/bench")]
    results: PathBuf,
}

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::parse();
    if arguments.parts.is_empty() {
        arguments.parts = Part::value_variants().to_vec();
    }
    let mut session = Session::new(arguments.quick)?;
    for part in &arguments.parts {
        match part {
            Part::Boot => boot::measure(&mut session)?,
            Part::Cpu => cpu::measure(&mut session)?,
            Part::Memory => memory::measure(&mut session)?,
            Part::Web => web::measure(&mut session)?,
        }
    }
    let reported = session.report(&arguments.results)?;
    Ok(if reported { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
