//! Paired measurements of whole systems, started by `scripts/bench`.
//!
//! What is compared runs in turn (A B A B ...) in one session, so that a machine whose speed drifts
//! drifts for all; the figures to quote are medians, and ratios of runs that stood side by side.
mod appliance;
mod block;
mod boot;
mod conditions;
mod cpu;
mod cpus;
mod density;
mod figures;
mod host;
mod in_turn;
mod memory;
mod noise;
mod options;
mod plot;
mod program;
mod server;
mod session;
mod web;

use anyhow::Result;
use clap::Parser;
use options::{Arguments, Part};
use session::Session;
use std::process::ExitCode;

/// What measures each part. A part that fails, or that was too noisy, takes nothing from the others.
const PARTS: [(Part, Measure); 7] = [
    (Part::Block, block::measure),
    (Part::Boot, boot::measure),
    (Part::Cpu, cpu::measure),
    (Part::Density, density::measure),
    (Part::Memory, memory::measure),
    (Part::Net, web::measure_net),
    (Part::Web, web::measure),
];

type Measure = fn(&mut Session) -> Result<()>;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut session = Session::new(arguments.options.clone(), &arguments.results)?;
    for (part, measure) in PARTS.iter().filter(|(part, _)| arguments.has(*part)) {
        let done = measure(&mut session);
        session.end_part(part.name(), done)?;
    }
    let reported = session.report()?;
    Ok(if reported { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
