//! Stacks joined back to back by a link that misbehaves, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, where a wrong value is to panic"
)]
mod any_ip;
mod demultiplexer;
mod differential;
mod hostile;
mod ipv6;
mod lifecycle;
mod link;
mod path;
mod transfer;
mod udp;
mod world;
