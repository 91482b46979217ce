//! Paired measurements of whole systems, started by `scripts/bench`.
//!
//! What is compared runs in turn (A B A B ...) in one session, so that a machine whose speed drifts
//! drifts for all; the figures to quote are medians, and ratios of runs that stood side by side.
mod appliance;
mod boot;
mod conditions;
mod figures;
mod memory;
mod server;
mod web;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use figures::Figures;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Exec of `paravane` to the first HTTP 200.
    Boot,
    /// Size of the web image, memory of an idle appliance.
    Memory,
    /// Requests per second against nginx, small file, keep-alive.
    Web,
}

/// Measures the release build against native servers on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything by default.
    parts: Vec<Part>,
    /// Few and short runs: shows that the benchmarks work, not how fast anything is.
    #[arg(long)]
    quick: bool,
    /// Where the JSON and Markdown results go.
    #[arg(long, default_value = "target/bench")]
    results: PathBuf,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.parts.is_empty() {
        arguments.parts = Part::value_variants().to_vec();
    }
    let mut figures = Figures::new(conditions::collect());
    for part in &arguments.parts {
        match part {
            Part::Boot => boot::measure(&mut figures, arguments.quick)?,
            Part::Memory => memory::measure(&mut figures, arguments.quick)?,
            Part::Web => web::measure(&mut figures, arguments.quick)?,
        }
    }
    figures.write(&arguments.results)?;
    print!("{}", figures.markdown());
    Ok(())
}
