//! The guest kernel: everything between the contract with the host and an application.
//!
//! A guest is one vCPU without interrupts. Nothing preempts anything: code runs until it returns to
//! the executor's loop ([`run`]), suspends its fiber, or makes a hypercall. All of the kernel's state
//! is therefore one value without locks (`state`), and all that is not deterministic - time, entropy,
//! packets, completions - enters through `hypercall` and the pages that the host shares.
//!
//! An image calls [`boot`] once, then [`run`] with its main future, then [`exit`].
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod block;
pub mod console;
mod device;
pub mod entropy;
pub mod executor;
pub mod fiber;
mod hypercall;
mod logger;
pub mod memory;
pub mod net;
pub mod panic;
mod start;
mod state;
mod stop;
pub mod task;
pub mod time;
mod waker_set;

#[cfg(test)]
mod fake_host;
#[cfg(test)]
mod tests;

pub use executor::run;
pub use start::{arguments, boot, config, exit};
pub use stop::{is_stopping, stop_requested};

/// Converts a size, offset or address of the contract. Lossless: the only architecture is x86-64.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits")]
pub(crate) const fn to_usize(value: u64) -> usize {
    const _: () = assert!(usize::BITS == 64);
    value as usize
}
