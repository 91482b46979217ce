//! The command line.
#![forbid(unsafe_code)]
mod args;
mod bundle;
mod check;
mod disks;
mod images;
mod net;
mod net6;
mod qemu;
mod run;
mod size;

use crate::domain::clock::Sample;
use crate::notice::notice;
use args::{Cli, Command};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

use paravane_host::status::Status;

/// Parses the command line and does what it says; the result is the process's exit status.
#[must_use]
pub fn main() -> ExitCode {
    let early = Sample::precise();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return args::explain(&error).code().into(),
    };
    let status = match cli.command {
        Command::Run(args) => run::run(args, early),
        Command::Bundle(args) => bundle::bundle(&args),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => doctor(&args),
    };
    status.code().into()
}

/// An error's exit status and line.
type Failure = (Status, String);

fn with<E: std::fmt::Display>(status: Status) -> impl Fn(E) -> Failure {
    move |error| (status, error.to_string())
}

/// Prints one line about an error, and gives its exit status.
fn fail(status: Status, error: &dyn std::fmt::Display) -> Status {
    notice(error);
    status
}

fn doctor(args: &args::Doctor) -> Status {
    let diagnosis = crate::doctor::diagnose();
    print(&diagnosis, args.json);
    if diagnosis.auto_backend.is_some() { Status::OK } else { Status::VIOLATION }
}

fn print(report: &(impl serde::Serialize + std::fmt::Display), json: bool) {
    let mut output = std::io::stdout();
    // Nothing is left to do if nobody reads it.
    let _ = if json {
        let text = serde_json::to_string_pretty(report).unwrap_or_default();
        writeln!(output, "{text}")
    } else {
        writeln!(output, "{report}")
    };
}
