//! Widths of integers.

/// A length or offset as the host's own type.
#[expect(clippy::cast_possible_truncation, reason = "the two have the same width, see below")]
pub(crate) const fn to_usize(value: u64) -> usize {
    value as usize
}

// The VMM runs on x86-64 only.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());
