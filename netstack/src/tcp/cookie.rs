//! SYN cookies (RFC 4987, 3.6): when a backlog is full, what has to be remembered of a SYN goes into
//! the answer, and comes back with the acknowledgement.
use super::segment::SynOptions;
use super::sequence::Seq;
use crate::flow::Flow;
use crate::secret::Secret;
use smoltcp::time::Instant;

/// Segment sizes that a cookie can tell: the largest one is taken that the peer allows.
const SIZES: [u16; 8] = [64, 536, 1220, 1300, 1400, 1440, 1460, 8960];

/// Bits of a cookie that name the size; the others prove that it is ours.
const SIZE_BITS: u32 = 3;

/// A cookie counts in the period in which it was made and in the next one.
const PERIOD_S: i64 = 32;

/// Bits of a timestamp that hold the rest: whether the peer takes selective acknowledgements, and its
/// window shift, or [`UNSCALED`].
const STAMP_BITS: u32 = 5;
const SELECTIVE: u32 = 1 << 4;
const UNSCALED: u32 = 15;

fn period(now: Instant) -> i64 {
    now.secs() / PERIOD_S
}

fn proof(secret: &Secret, flow: &Flow, peer: Seq, period: i64, size: u32) -> u32 {
    secret.hash_low(flow, ('c', peer.0, period, size)) << SIZE_BITS | size
}

/// The first sequence number of an answer to a SYN, whose options are known from it and, if the peer
/// has timestamps, from [`stamp`].
pub(crate) fn bake(secret: &Secret, flow: &Flow, peer: Seq, mss: u16, now: Instant) -> Seq {
    let size = SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0);
    Seq(proof(secret, flow, peer, period(now), super::length(size)))
}

/// Reads a cookie: the segment size, if it is ours and fresh.
pub(crate) fn eat(
    secret: &Secret,
    flow: &Flow,
    peer: Seq,
    cookie: Seq,
    now: Instant,
) -> Option<u16> {
    let size = cookie.0 & ((1 << SIZE_BITS) - 1);
    let is_of = |period| proof(secret, flow, peer, period, size) == cookie.0;
    (is_of(period(now)) || is_of(period(now) - 1)).then(|| SIZES[size as usize])
}

/// Our timestamp with the options in its low bits. It is never ahead of the clock, as later ones must
/// not lie behind it.
pub(crate) fn stamp(clock: u32, options: &SynOptions) -> u32 {
    let shift = options.window_shift.map_or(UNSCALED, u32::from);
    let selective = if options.permits_sack { SELECTIVE } else { 0 };
    let mask = (1 << STAMP_BITS) - 1;
    let stamp = clock & !mask | selective | shift;
    if Seq(stamp) > Seq(clock) { stamp.wrapping_sub(mask + 1) } else { stamp }
}

/// Reads the options out of a timestamp that came back.
pub(crate) fn read_stamp(stamp: u32, mss: u16, timestamp: u32) -> SynOptions {
    let shift = u8::try_from(stamp & UNSCALED).unwrap_or(0);
    SynOptions {
        mss: Some(mss),
        window_shift: (u32::from(shift) != UNSCALED).then_some(shift),
        permits_sack: stamp & SELECTIVE != 0,
        timestamp: Some(timestamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;

    fn flow(port: u16) -> Flow {
        Flow::new((Ipv4Addr::LOCALHOST.into(), 80), (Ipv4Addr::LOCALHOST.into(), port))
    }

    fn at(s: i64) -> Instant {
        Instant::from_secs(s)
    }

    #[test]
    fn a_cookie_counts_for_its_flow_and_time_only() {
        let secret = Secret::new(1);
        let cookie = bake(&secret, &flow(1), Seq(7), 1460, at(100));
        assert_eq!(eat(&secret, &flow(1), Seq(7), cookie, at(130)), Some(1460));
        assert_eq!(eat(&secret, &flow(1), Seq(7), cookie, at(170)), None);
        assert_eq!(eat(&secret, &flow(2), Seq(7), cookie, at(100)), None);
        assert_eq!(eat(&secret, &flow(1), Seq(8), cookie, at(100)), None);
        assert_eq!(eat(&secret, &flow(1), Seq(7), cookie + 1, at(100)), None);
        assert_eq!(eat(&Secret::new(2), &flow(1), Seq(7), cookie, at(100)), None);
    }

    proptest! {
        #[test]
        fn options_come_back(
            clock in any::<u32>(),
            mss in 64u16..,
            shift in prop::option::of(0u8..=14),
            permits_sack in any::<bool>(),
        ) {
            let options = SynOptions {
                mss: Some(mss), window_shift: shift, permits_sack, timestamp: Some(5),
            };
            let stamp = stamp(clock, &options);
            prop_assert!(Seq(stamp) <= Seq(clock) && clock.wrapping_sub(stamp) < 64);
            prop_assert_eq!(read_stamp(stamp, mss, 5), options);
            let cookie = bake(&Secret::new(3), &flow(1), Seq(clock), mss, at(1));
            let size = eat(&Secret::new(3), &flow(1), Seq(clock), cookie, at(1)).unwrap();
            prop_assert!(size <= mss);
        }
    }
}
