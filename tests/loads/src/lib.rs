//! Input and output that a native program and a guest do alike, to measure what virtualization costs.
//!
//! The program that runs a load brings the [`Machine`]: a file and an operating system, or a block device
//! and a host. What is timed stands between two marks, as with `paravane-kernels`.
#![forbid(unsafe_code)]
mod load;

pub use load::{LOADS, Load};

use paravane_kernels::{BEGIN, END};
use std::future::Future;
use std::io;
use std::time::Instant;

/// Bytes of the store that loads use.
pub const STORE_LEN: u64 = 256 << 20;

/// What a load runs on. Offsets and lengths are multiples of 512 bytes, below [`STORE_LEN`].
pub trait Machine {
    /// Fills `data` with the bytes at `offset`.
    fn read(&self, offset: u64, data: &mut [u8]) -> impl Future<Output = io::Result<()>>;

    /// Writes `data` to `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// Makes what was written survive a loss of power.
    fn flush(&self) -> impl Future<Output = io::Result<()>>;

    /// Asks the operating system, or the host, for the least that there is.
    fn call(&self);
}

/// Runs the load that the first argument names as many times as the second says, and once before that.
///
/// # Errors
/// The arguments are wrong, or the store failed.
pub async fn run(
    machine: &impl Machine,
    mut arguments: impl Iterator<Item = String>,
) -> io::Result<()> {
    let name = arguments.next();
    let load = LOADS.into_iter().find(|load| name.as_deref() == Some(load.name()));
    let passes = arguments.next().and_then(|count| count.parse::<u32>().ok());
    let (Some(load), Some(passes)) = (load, passes) else {
        let names = LOADS.map(Load::name);
        return Err(io::Error::other(format!(
            "arguments: LOAD PASSES, LOAD being one of {names:?}"
        )));
    };
    let checksum = load.pass(machine).await?;
    eprintln!("{BEGIN}");
    let start = Instant::now();
    for _ in 0..passes {
        load.pass(machine).await?;
    }
    eprintln!("{END} {} {checksum}", start.elapsed().as_nanos());
    Ok(())
}

#[cfg(test)]
mod tests;
