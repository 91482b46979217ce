//! The layout of a payload's header. `docs/bundle.md` says what the fields mean.
use super::DISKS_MAX;
use core::mem::offset_of;
use paravane_abi::device::Ipv6Config;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes of a payload.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"PVBUNDLE");

/// The version of the format that is read and written here.
pub(super) const VERSION: u32 = 2;

/// Start of a payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    /// [`MAGIC`].
    pub(super) magic: u64,
    /// [`VERSION`].
    pub(super) version: u32,
    /// CRC-32 (IEEE 802.3) of the whole payload with this field taken as zero.
    pub(super) checksum: u32,
    /// Bytes of the payload, this header included.
    pub(super) len: u64,
    /// Bytes of the file that the payload is a part of.
    pub(super) file_len: u64,
    pub(super) image: Part,
    pub(super) config: Part,
    pub(super) arguments: Part,
    /// Entries of `disks` in use.
    pub(super) disk_count: u32,
    /// 1 if the first disk is the bundle's own file, else 0.
    pub(super) is_own_disk: u32,
    pub(super) watchdog_seconds: u32,
    pub(super) reserved: u32,
    pub(super) ipv4: Ipv4,
    pub(super) ipv6: Ipv6Config,
    pub(super) disks: [[u8; 16]; DISKS_MAX],
}

/// Bytes of the payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Part {
    /// Where they start, from the start of the payload.
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Addresses of the guest, in network order; all zero for DHCP.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ipv4 {
    /// The guest's own.
    pub address: [u8; 4],
    /// Default gateway; 0.0.0.0 for none.
    pub gateway: [u8; 4],
    /// DNS server; 0.0.0.0 for none.
    pub dns: [u8; 4],
    /// Length of the network's prefix, bits, 0 to 32.
    pub prefix_len: u8,
    pub(super) reserved: [u8; 3],
}

impl Ipv4 {
    /// A static configuration.
    #[must_use]
    pub const fn new(address: [u8; 4], prefix_len: u8, gateway: [u8; 4], dns: [u8; 4]) -> Self {
        Self { address, gateway, dns, prefix_len, reserved: [0; 3] }
    }
}

const _: () = assert!(size_of::<Header>() == 296);
const _: () = assert!(offset_of!(Header, checksum) == 12);
const _: () = assert!(offset_of!(Header, image) == 32);
const _: () = assert!(offset_of!(Header, disk_count) == 80);
const _: () = assert!(offset_of!(Header, ipv4) == 96);
const _: () = assert!(offset_of!(Header, ipv6) == 112);
const _: () = assert!(offset_of!(Header, disks) == 168);
