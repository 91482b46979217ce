//! The guest's own virtio front-ends: the driver side of a split virtqueue, and of the network and
//! block devices on top of it.
//!
//! There is no hypercall in here. Memory that the device sees comes through [`Dma`], and the calls
//! `ATTACH` and `NOTIFY` go through [`Transport`], so that the same drivers run in a guest, in a
//! test beside a model of the device, and under a model checker.
//!
//! What the device writes into rings is checked before it is used. A device that breaks a rule gets
//! its queue declared dead with a [`RingFault`]; it cannot make the driver panic, touch memory that
//! was not given to it, or give a buffer away twice. What it cannot be kept from is writing to guest
//! RAM at any time: a guest trusts its host with its memory, as every guest does.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "model"))]
extern crate std;

pub mod block;
mod dma;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod net;
#[cfg(test)]
mod tests;
mod transport;
mod virtqueue;

pub use dma::{Dma, DmaBuffer};
pub use transport::{AttachError, Transport, TransportError};
pub use virtqueue::{Chain, DmaRing, QueueFull, RingFault, RingMemory, Segment, Used, VirtQueue};
