//! Sequence numbers, which wrap (RFC 9293, 3.4).
use core::cmp::Ordering;
use core::ops::{Add, AddAssign, Sub};

/// A sequence number. Two of them can be compared if they lie less than 2^31 apart, as all that a
/// connection handles at a time do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    /// Bytes from `earlier` to here; 0 if it is not earlier.
    pub(crate) fn since(self, earlier: Self) -> u32 {
        if self > earlier { self - earlier } else { 0 }
    }

    /// The later one.
    pub(crate) fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// The earlier one.
    pub(crate) fn min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, len: u32) -> Self {
        Self(self.0.wrapping_add(len))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, len: u32) {
        *self = *self + len;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, len: u32) -> Self {
        Self(self.0.wrapping_sub(len))
    }
}

impl Sub for Seq {
    type Output = u32;

    /// The distance, modulo 2^32.
    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl PartialOrd for Seq {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.0.wrapping_sub(other.0).cast_signed().cmp(&0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_distance_hold_across_the_wrap() {
        let (early, late) = (Seq(u32::MAX - 5), Seq(10));
        assert!(early < late);
        assert_eq!((late - early, late.since(early), early.since(late)), (16, 16, 0));
        assert_eq!((early + 16, late - 16), (late, early));
        assert_eq!((early.max(late), early.min(late)), (late, early));
    }
}
