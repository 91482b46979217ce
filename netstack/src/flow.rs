//! The key of the demultiplexer.
use core::hash::BuildHasher;
use core::net::SocketAddr;
use hashbrown::HashMap;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// A TCP connection as both ends name it, seen from the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The stack's end.
    pub local: IpEndpoint,
    /// The peer's end.
    pub remote: IpEndpoint,
}

impl Flow {
    pub(crate) fn new(local: (IpAddress, u16), remote: (IpAddress, u16)) -> Self {
        Self { local: local.into(), remote: remote.into() }
    }

    /// The stack's end as a socket address.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        SocketAddr::new(self.local.addr.into(), self.local.port)
    }

    /// The peer's end as a socket address.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        SocketAddr::new(self.remote.addr.into(), self.remote.port)
    }
}

/// Maps of the stack hash with a secret seed: peers choose part of the keys.
pub(crate) type SeededMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

pub(crate) fn seeded_map<K, V>(seed: u64) -> SeededMap<K, V> {
    HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed))
}

/// A pseudo-random function of the seed, for choices that an outsider should not guess.
pub(crate) fn mix(seed: u64, value: u64) -> u64 {
    foldhash::quality::FixedState::with_seed(seed).hash_one(value)
}
