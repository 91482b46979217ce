//! The pieces of computation as a native program.
use std::process::ExitCode;

fn main() -> ExitCode {
    paravane_kernels::run(std::env::args().skip(1))
}
