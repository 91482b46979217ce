//! The wire between a domain's network device and its user network: Ethernet frames behind virtio-net
//! headers, in memory that the domain process shares with the supervisor.
//!
//! Each direction has a ring of messages. Who finds nothing to do writes down what it waits for and
//! sleeps on its bell, an eventfd; the other side looks there after each batch, and rings if it has
//! done that. So a busy wire makes no system calls, and an idle one none either.
//!
//! Both ends take what the other one writes for an allegation: on the process backend, a guest that has
//! taken over its domain process writes here what it likes, at any time. Everything is read once,
//! checked, and then used; what can be broken is the wire, for its own guest.
#![forbid(unsafe_code)]
mod end;
mod memory;
mod ring;
#[cfg(test)]
mod tests;

pub use end::{End, Takes, Wants, pair};
pub use ring::{Consumer, Producer};

/// Bytes of the virtio-net header before each frame (virtio 1.2, 5.1.6).
pub const HEADER_LEN: usize = 12;

/// Longest message: a header, an Ethernet header and an IP packet of the largest size, bytes.
pub const MESSAGE_LEN_MAX: usize = HEADER_LEN + 14 + 0x1_0000;
