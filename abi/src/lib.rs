//! The contract between a Paravane guest and whatever hosts it.
//!
//! `docs/abi.md` is the normative text; this crate is its Rust form. Every structure that both sides
//! see is defined here, once, with its layout asserted at compile time. All integers are
//! little-endian, as x86-64 is the only architecture. Fields called `reserved` are zero and are
//! refused otherwise, so that later versions can give them a meaning.
//!
//! Directions: **OUT** is written by the host and read by the guest, **IN** the other way round.
//! Whoever reads memory that the other side can write copies it once, validates the copy, and uses
//! only the copy.
#![no_std]
#![forbid(unsafe_code)]

pub mod device;
pub mod hypercall;
pub mod layout;
pub mod manifest;
pub mod start_info;
pub mod time;

/// Version of the contract: major in the upper 16 bits, minor in the lower 16.
///
/// A host runs an image whose major version equals its own and whose minor version is not above its
/// own. Changing or removing anything raises the major version; adding raises the minor.
pub const ABI_VERSION: u32 = version(1, 1);

/// Packs a contract version.
#[must_use]
pub const fn version(major: u16, minor: u16) -> u32 {
    (major as u32) << 16 | minor as u32
}

/// Whether a host speaking `host` can run an image built for `image`.
#[must_use]
pub const fn is_compatible(host: u32, image: u32) -> bool {
    host >> 16 == image >> 16 && image & 0xffff <= host & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatibility_follows_major_and_minor() {
        assert!(is_compatible(version(1, 2), version(1, 0)));
        assert!(is_compatible(version(1, 2), version(1, 2)));
        assert!(!is_compatible(version(1, 2), version(1, 3)));
        assert!(!is_compatible(version(2, 0), version(1, 0)));
        assert!(!is_compatible(version(1, 0), version(2, 0)));
    }
}
