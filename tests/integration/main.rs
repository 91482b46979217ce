//! Integration tests: the release build of `paravane` and its images, real clients, hostile guests.
//!
//! Every case runs on every backend. Where a backend or a client is missing, its cases are listed as
//! ignored with the reason in their names. `scripts/test` builds what this needs.
mod backend;
mod browser;
mod bundle;
mod case;
mod cli;
mod crowd;
mod domain;
mod hostile;
mod kernel;
mod lifecycle;
mod load;
mod malformed;
mod namespace;
mod network;
mod pvh_loader;
mod robustness;
mod shim;
mod sites;
mod std_surface;
mod tap;
mod tap6;
mod web;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = [
        hostile::cases(),
        kernel::cases(),
        lifecycle::cases(),
        web::cases(),
        malformed::cases(),
        sites::cases(),
        std_surface::cases(),
        tap::cases(),
        tap6::cases(),
        network::cases(),
        robustness::cases(),
        load::cases(),
        crowd::cases(),
        browser::cases(),
        bundle::cases(),
        shim::cases(),
    ];
    let mut trials: Vec<Trial> = cases.into_iter().flatten().flat_map(case::Case::trials).collect();
    trials.extend(cli::trials());
    trials.extend(bundle::trials());
    trials.extend(pvh_loader::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
