//! Guest that runs the benchmark's pieces of computation, as `cpu-native` does on the host.
use paravane_libc::abi::manifest::Manifest;
use std::process::ExitCode;

paravane_libc::image!(Manifest::new("cpu-kernels", 192 << 20, &[]));

fn main() -> ExitCode {
    paravane_kernels::run(std::env::args().skip(1))
}
