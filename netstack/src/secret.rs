//! What outsiders must not be able to guess: sequence numbers, clocks, cookies.
use crate::flow::{Flow, mix};
use core::hash::{Hash, Hasher};
// The one keyed hash of `core` that is made for this: SipHash-2-4. It is deprecated as a name that
// programs with `std` have no use for.
#[expect(deprecated, reason = "core has no other name for it")]
use core::hash::SipHasher;
use smoltcp::time::Instant;

/// A key for pseudo-random functions of flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret(u64, u64);

impl Secret {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed, 8), mix(seed, 9))
    }

    /// A number that depends on the flow, on what it is for, and on the key.
    pub(crate) fn hash(&self, flow: &Flow, purpose: impl Hash) -> u64 {
        #[expect(deprecated, reason = "see above")]
        let mut hasher = SipHasher::new_with_keys(self.0, self.1);
        flow.hash(&mut hasher);
        purpose.hash(&mut hasher);
        hasher.finish()
    }

    /// A number that depends on `ordinal` and on the key. Outsiders see some of them, such as the ports
    /// and the identifiers of queries.
    pub(crate) fn draw(&self, ordinal: u64) -> u64 {
        #[expect(deprecated, reason = "see above")]
        let mut hasher = SipHasher::new_with_keys(self.0, self.1);
        hasher.write_u64(ordinal);
        hasher.finish()
    }

    /// The low half of [`hash`](Self::hash).
    pub(crate) fn hash_low(&self, flow: &Flow, purpose: impl Hash) -> u32 {
        u32::try_from(self.hash(flow, purpose) & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// The first sequence number of a connection (RFC 6528): a clock of 4 µs, so that a flow that comes
    /// again goes on where it was, and an offset for each flow.
    pub(crate) fn sequence_number(&self, flow: &Flow, now: Instant) -> u32 {
        let clock = (now.total_micros().cast_unsigned() / 4) & u64::from(u32::MAX);
        self.hash_low(flow, 's').wrapping_add(u32::try_from(clock).unwrap_or(0))
    }

    /// What the timestamp clock of a flow shows at time 0 (RFC 7323, 7.1).
    pub(crate) fn timestamp_offset(&self, flow: &Flow) -> u32 {
        self.hash_low(flow, 't')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn flow(port: u16) -> Flow {
        Flow::new((Ipv4Addr::LOCALHOST.into(), 80), (Ipv4Addr::LOCALHOST.into(), port))
    }

    #[test]
    fn sequence_numbers_grow_with_time_and_differ_between_flows_and_keys() {
        let (secret, other) = (Secret::new(1), Secret::new(2));
        let at = |us| Instant::from_micros(us);
        let first = secret.sequence_number(&flow(1), at(0));
        assert_eq!(secret.sequence_number(&flow(1), at(400)), first.wrapping_add(100));
        assert_ne!(secret.sequence_number(&flow(2), at(0)), first);
        assert_ne!(other.sequence_number(&flow(1), at(0)), first);
        assert_ne!(secret.timestamp_offset(&flow(1)), first);
    }
}
