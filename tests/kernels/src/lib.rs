//! Pieces of pure computation that run natively and in a guest, to measure what virtualization costs.
//!
//! A program with these runs one of them, as often as asked, between two marks on its standard error:
//! whoever reads it takes the time, so that no clock of a guest needs to be trusted. The program says
//! what its own clock made of it, and a checksum, so that both can be compared.
#![forbid(unsafe_code)]
mod cipher;
mod hash;
mod memory;
mod random;
mod sql;
mod tree;

pub use random::Random;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// One pass over prepared data, which returns a checksum: the same for every pass, everywhere.
type Pass = Box<dyn FnMut() -> u64>;

/// A piece of computation.
struct Kernel {
    name: &'static str,
    prepare: fn() -> Pass,
}

const KERNELS: [Kernel; 8] = [
    Kernel { name: "sha-256", prepare: hash::prepare },
    Kernel { name: "aes-256-gcm", prepare: cipher::prepare },
    Kernel { name: "b-tree-search", prepare: tree::prepare_search },
    Kernel { name: "b-tree-updates", prepare: tree::prepare_updates },
    Kernel { name: "sqlite", prepare: sql::prepare },
    Kernel { name: "memcpy-1-mib", prepare: || memory::prepare_copy(1 << 20) },
    Kernel { name: "memcpy-32-mib", prepare: || memory::prepare_copy(32 << 20) },
    Kernel { name: "pointer-chase", prepare: memory::prepare_chase },
];

/// The names of all kernels.
pub fn names() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().map(|kernel| kernel.name)
}

/// What a program of kernels does with its arguments: the name of a kernel, and how many passes to time.
/// One pass more comes first, untimed, and warms up.
#[must_use]
pub fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let name = arguments.next();
    let kernel = KERNELS.iter().find(|kernel| name.as_deref() == Some(kernel.name));
    let passes = arguments.next().and_then(|count| count.parse::<u32>().ok());
    let (Some(kernel), Some(passes)) = (kernel, passes) else {
        eprintln!(
            "arguments: KERNEL PASSES, KERNEL being one of {:?}",
            names().collect::<Vec<_>>()
        );
        return ExitCode::from(2);
    };
    let mut pass = (kernel.prepare)();
    let checksum = pass();
    eprintln!("{BEGIN}");
    let start = Instant::now();
    for _ in 0..passes {
        black_box(pass());
    }
    eprintln!("{END} {} {checksum}", start.elapsed().as_nanos());
    ExitCode::SUCCESS
}

/// The line before the timed passes.
pub const BEGIN: &str = "passes begin";
/// How the line after the timed passes begins. Nanoseconds by the program's clock and the checksum follow.
pub const END: &str = "passes end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_of_a_kernel_gives_the_same() {
        for kernel in &KERNELS {
            let mut pass = (kernel.prepare)();
            let first = pass();
            assert_eq!([pass(), (kernel.prepare)()()], [first; 2], "{}", kernel.name);
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let status = |words: &[&str]| run(words.iter().map(|&word| word.to_owned()));
        for wrong in [&[][..], &["b-tree-search"], &["b-tree-search", "many"], &["quicksort", "1"]]
        {
            assert_eq!(format!("{:?}", status(wrong)), format!("{:?}", ExitCode::from(2)));
        }
    }
}
