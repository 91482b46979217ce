//! Widths of integers.

/// A length or offset as the host's own type.
#[expect(clippy::cast_possible_truncation, reason = "the two have the same width, see below")]
#[must_use]
pub const fn to_usize(value: u64) -> usize {
    value as usize
}

// There are hosts on x86-64 only.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());
