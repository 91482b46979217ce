//! `paravane`: runs Paravane images, checks them, and says what works on this machine.
use std::process::ExitCode;

fn main() -> ExitCode {
    paravane::allocator::share_one_heap();
    paravane::cli::main()
}
