//! The shim: a ring-0 loader that runs a Paravane image on a machine without Paravane's VMM below,
//! such as QEMU's. Everything that can be tested without such a machine is in this library.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod calendar;
pub mod domain;
pub mod heap;
pub mod layout;
pub mod machine;
pub mod pvh;
mod start;
pub mod virtio;

pub use start::{fail, start};
