//! The user-mode network: a guest's network without any privilege.
//!
//! Inside the VMM, a TCP/IP stack stands in for everybody whom the guest talks to; each connection and
//! each flow of datagrams is carried on by an ordinary socket of the host. The guest can be reached
//! through published ports only, and reaches what the user could reach, with these exceptions: not the
//! host's own loopback services, not link-local addresses (where clouds keep their metadata services),
//! no multicast and no broadcast. DNS queries to the gateway are passed on to the host's resolver.
//!
//! It runs on a thread of the supervisor, outside the domain's sandbox; what the guest sends is parsed
//! by safe code only.
#![forbid(unsafe_code)]
mod addresses;
mod datagrams;
mod dhcp;
mod engine;
mod port;
mod publish;
mod relay;
mod relays;
mod resolver;
mod signal;
#[cfg(test)]
mod tests;
mod token;

pub use addresses::Addresses;
pub use publish::{Protocol, Publish, PublishError, PublishParseError};

use crate::net::wire;
use engine::Engine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::thread;

/// Most descriptors that the network takes: one a connection.
const DESCRIPTORS_MAX: u64 = 20_000;
/// Descriptors that are left to everything else.
const DESCRIPTORS_KEPT: u64 = 64;

/// Why there is no user-mode network.
#[derive(Debug, thiserror::Error)]
pub enum UserNetworkError {
    /// A port cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The host refuses something else.
    #[error("cannot start the user-mode network: {0}")]
    Host(#[from] io::Error),
}

/// A user-mode network that listens on its published ports, but does not move anything yet.
#[derive(Debug)]
pub struct UserNetwork {
    engine: Engine,
}

impl UserNetwork {
    /// Opens the published ports and makes the network and the guest's end of its wire, for a network
    /// device in another process or thread.
    ///
    /// # Errors
    /// A port is taken or not allowed, or the host is out of something.
    pub fn new(
        addresses: Addresses,
        publish: &[Publish],
    ) -> Result<(Self, wire::End), UserNetworkError> {
        let (guests, ours) = wire::pair()?;
        let engine = Engine::new(addresses, publish, ours)?;
        Ok((Self { engine }, guests))
    }

    /// Starts to move frames, on a thread that ends when the guest's end is closed everywhere. Call it
    /// after the domain's process was forked, and close the guest's end in this process.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(self) -> io::Result<()> {
        let Self { mut engine } = self;
        engine.set_connections_max(allow_descriptors());
        thread::Builder::new().name("user-network".to_owned()).spawn(move || {
            if let Err(error) = engine.run() {
                eprintln!("paravane: the user-mode network has ended: {error}");
            }
        })?;
        Ok(())
    }
}

/// Raises the limit of descriptors as far as the user may; how many connections it allows.
fn allow_descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = DESCRIPTORS_MAX.min(maximum.unwrap_or(u64::MAX));
    let mut allowed = current.unwrap_or(DESCRIPTORS_MAX);
    if allowed < wanted
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok()
    {
        allowed = wanted;
    }
    usize::try_from(allowed.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX)
}
