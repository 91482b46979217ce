//! The HTTP logic of the web appliance, independent of the kernel.
//!
//! [`index`] reads the tar archive on a [`BlockSource`] into a [`Site`]; a [`Server`] serves it to any
//! number of [`Transport`]s on one thread, with time from a [`Clock`]. Plain
//! requests for files in memory are answered directly; for all others hyper does the framing of
//! HTTP/1.1. This crate decides what is answered, keeps memory and waiting times bounded, and is
//! tested natively, on virtual time.
#![forbid(unsafe_code)]
mod access_log;
mod body;
mod config;
mod connection;
mod content;
mod metrics;
mod platform;
mod request;
mod server;
mod sessions;
mod site;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use access_log::Sink;
pub use config::{CacheConfig, Config, ConfigError, Limits, Timeouts};
pub use platform::{BlockSource, Clock, SECTOR_LEN, Transport};
pub use server::Server;
pub use site::{IndexError, Site, index};
