//! `paravane`: runs Paravane images, checks them, and says what works on this machine.
use std::process::ExitCode;

fn main() -> ExitCode {
    paravane::cli::main()
}
