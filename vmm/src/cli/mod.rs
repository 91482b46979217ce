//! The command line.
#![forbid(unsafe_code)]
mod args;
mod disks;
mod images;
mod net;
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
        Command::Check(args) => check(&args),
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

fn check(args: &args::Check) -> Status {
    let path = match images::find(&args.image) {
        Ok(path) => path,
        Err(error) => return fail(Status::HOST, &error),
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return fail(Status::HOST, &format!("{}: {error}", path.display())),
    };
    if let Err(error) = paravane_host::image::Image::read(bytes.as_slice()) {
        return fail(Status::VIOLATION, &format!("{}: {error}", path.display()));
    }
    match crate::audit::sweep(&bytes) {
        Ok(report) => {
            print(&report, args.json);
            if report.findings.is_empty() { Status::OK } else { Status::VIOLATION }
        }
        Err(error) => fail(Status::VIOLATION, &format!("{}: {error}", path.display())),
    }
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
