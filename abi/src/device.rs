//! Devices: virtio 1.2 split virtqueues in guest RAM, described by the device table of the start info.
//!
//! The guest lays the rings out in its RAM and hands them over with the `ATTACH` hypercall; from then
//! on descriptors, the available and the used ring are those of virtio 1.2, section 2.7, and a
//! notification is the `NOTIFY` hypercall. Addresses in rings and in [`QueueSetup`] are **device
//! addresses**: RAM offset + `dma_offset` of the start info.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most devices a domain can have. Device `i` owns bit `i` of the event mask of `WAIT`.
pub const DEVICES_MAX: usize = 16;

/// Most virtqueues a device can have.
pub const QUEUES_MAX: usize = 4;

/// Most entries a virtqueue can have (virtio 1.2, 2.7: a power of two up to 32768; less here).
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// Feature bits used by this contract (virtio 1.2, section 6 and the device chapters).
pub mod feature {
    /// Net: the device checks or completes checksums of what the guest sends (5.1.3).
    pub const NET_CSUM: u64 = 1 << 0;
    /// Net: the guest takes packets with partial checksums (5.1.3).
    pub const NET_GUEST_CSUM: u64 = 1 << 1;
    /// Net: the guest takes TCPv4 segments larger than the MTU (5.1.3).
    pub const NET_GUEST_TSO4: u64 = 1 << 7;
    /// Net: the guest takes TCPv6 segments larger than the MTU (5.1.3).
    pub const NET_GUEST_TSO6: u64 = 1 << 8;
    /// Net: the device segments TCPv4 that the guest sends (5.1.3).
    pub const NET_HOST_TSO4: u64 = 1 << 11;
    /// Net: the device segments TCPv6 that the guest sends (5.1.3).
    pub const NET_HOST_TSO6: u64 = 1 << 12;
    /// Net: received packets may span several buffers (5.1.3).
    pub const NET_MRG_RXBUF: u64 = 1 << 15;
    /// Block: the device is read-only (5.2.3).
    pub const BLK_RO: u64 = 1 << 5;
    /// Block: the device has the flush command (5.2.3).
    pub const BLK_FLUSH: u64 = 1 << 9;
    /// Block: the device has the discard command (5.2.3).
    pub const BLK_DISCARD: u64 = 1 << 13;
    /// Rings carry `used_event` and `avail_event` (2.7.7, 2.7.10).
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// The device follows virtio 1.x; always offered and always to be accepted.
    pub const VERSION_1: u64 = 1 << 32;
}

/// What a device is: the device ID of virtio 1.2, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceKind {
    /// Network: queue 0 receives, queue 1 transmits (5.1.2). The header has 12 bytes.
    Net = 1,
    /// Block: queue 0 carries requests (5.2.2). Sectors have 512 bytes.
    Block = 2,
}

impl DeviceKind {
    /// The kind with this device ID.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            1 => Some(Self::Net),
            2 => Some(Self::Block),
            _ => None,
        }
    }
}

/// An entry of the device table. OUT.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Device {
    /// A [`DeviceKind`]; guests skip kinds that they do not know.
    pub kind: u32,
    /// Number of virtqueues.
    pub queue_count: u16,
    /// Most entries of each virtqueue, a power of two.
    pub queue_size_max: u16,
    /// Feature bits offered, see [`feature`].
    pub features: u64,
    /// What the operator calls the device ("site", "data"), UTF-8, padded with NUL.
    pub tag: [u8; 16],
    /// Network configuration; zero for other kinds.
    pub net: NetConfig,
    /// Block configuration; zero for other kinds.
    pub block: BlockConfig,
}

/// Configuration of a network device. OUT. Addresses are in network order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetConfig {
    /// Ethernet address of the guest's interface.
    pub mac: [u8; 6],
    /// Largest IP packet on the wire, bytes.
    pub mtu: u16,
    /// IPv4 address of the guest; 0.0.0.0 asks for DHCP.
    pub ipv4_address: [u8; 4],
    /// IPv4 default gateway; 0.0.0.0 for none.
    pub ipv4_gateway: [u8; 4],
    /// IPv4 DNS server; 0.0.0.0 for none.
    pub ipv4_dns: [u8; 4],
    /// Length of the IPv4 network prefix, bits, 0 to 32.
    pub ipv4_prefix_len: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// IPv6 configuration of a network device, beside the device table. OUT; all zero without IPv6 and for
/// other kinds. Since version 1.1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ipv6Config {
    /// Address of the guest, with [`Ipv6Mode::Static`].
    pub address: [u8; 16],
    /// Default gateway; `::` for none.
    pub gateway: [u8; 16],
    /// DNS server; `::` for none.
    pub dns: [u8; 16],
    /// An [`Ipv6Mode`]; guests take values that they do not know as [`Ipv6Mode::Off`].
    pub mode: u8,
    /// Length of the network prefix, bits, 0 to 128.
    pub prefix_len: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// Where the guest gets its IPv6 addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ipv6Mode {
    /// There is no IPv6.
    Off = 0,
    /// The address is given; what routers advertise does not count.
    Static = 1,
    /// What routers advertise (RFC 4862).
    Automatic = 2,
}

impl Ipv6Config {
    /// Where the addresses come from.
    #[must_use]
    pub const fn mode(&self) -> Ipv6Mode {
        match self.mode {
            1 => Ipv6Mode::Static,
            2 => Ipv6Mode::Automatic,
            _ => Ipv6Mode::Off,
        }
    }
}

/// Configuration of a block device. OUT.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlockConfig {
    /// Size of the device, sectors of 512 bytes.
    pub capacity: u64,
    /// Most data segments of one request.
    pub segments_max: u32,
    /// Most sectors of one discard segment; 0 without [`feature::BLK_DISCARD`].
    pub discard_sectors_max: u32,
}

/// Bytes of a block sector.
pub const SECTOR_SIZE: u64 = 512;

/// Argument of the `ATTACH` hypercall: the rings that the guest made for one device. IN.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Attach {
    /// Index into the device table.
    pub device: u32,
    /// Number of entries of `queues` in use: the device's `queue_count`.
    pub queue_count: u32,
    /// Feature bits accepted: a subset of those offered, with [`feature::VERSION_1`].
    pub features: u64,
    /// The virtqueues.
    pub queues: [QueueSetup; QUEUES_MAX],
}

/// One virtqueue: where its three parts lie, as device addresses. IN.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct QueueSetup {
    /// Descriptor table, 16-byte aligned, 16 bytes an entry.
    pub descriptors: u64,
    /// Available ring, 2-byte aligned, 6 + 2 bytes an entry.
    pub available: u64,
    /// Used ring, 4-byte aligned, 6 + 8 bytes an entry.
    pub used: u64,
    /// Entries: a power of two, at most the device's `queue_size_max`.
    pub size: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<NetConfig>() == 24);
const _: () = assert!(size_of::<Ipv6Config>() == 56);
const _: () = assert!(core::mem::offset_of!(Ipv6Config, mode) == 48);
const _: () = assert!(size_of::<BlockConfig>() == 16);
const _: () = assert!(size_of::<Device>() == 72);
const _: () = assert!(core::mem::offset_of!(Device, net) == 32);
const _: () = assert!(core::mem::offset_of!(Device, block) == 56);
const _: () = assert!(size_of::<QueueSetup>() == 32);
const _: () = assert!(size_of::<Attach>() == 144);

/// Why an [`Attach`] is refused, before the rings are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The argument has another size than [`Attach`].
    Length,
    /// A reserved field is not zero, or an unused entry of `queues` is not empty.
    Reserved,
    /// The number of queues is not the device's.
    QueueCount,
    /// A feature that was not offered, or `VERSION_1` is missing.
    Features,
    /// A queue's size is not a power of two, is 0, or is above the device's limit.
    QueueSize,
    /// A ring is not aligned, or not altogether in RAM.
    Address,
}

impl Attach {
    /// Reads and validates the argument of an `ATTACH` for `device`, whose RAM has `ram_size` bytes
    /// starting at device address `dma_offset`.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn parse(
        bytes: &[u8],
        device: &Device,
        dma_offset: u64,
        ram_size: u64,
    ) -> Result<Self, AttachError> {
        let attach = Self::read_from_bytes(bytes).map_err(|_| AttachError::Length)?;
        if attach.queue_count != u32::from(device.queue_count) {
            return Err(AttachError::QueueCount);
        }
        let refused = attach.features & !device.features != 0;
        if refused || attach.features & feature::VERSION_1 == 0 {
            return Err(AttachError::Features);
        }
        let count = usize::from(device.queue_count);
        let (used, unused) =
            attach.queues.split_at_checked(count).ok_or(AttachError::QueueCount)?;
        if unused.iter().any(|q| *q != QueueSetup::default()) {
            return Err(AttachError::Reserved);
        }
        for queue in used {
            queue.check(device.queue_size_max, dma_offset, ram_size)?;
        }
        Ok(attach)
    }
}

impl QueueSetup {
    fn check(&self, size_max: u16, dma_offset: u64, ram_size: u64) -> Result<(), AttachError> {
        if self.reserved != [0; 3] {
            return Err(AttachError::Reserved);
        }
        if !self.size.is_power_of_two() || self.size > size_max {
            return Err(AttachError::QueueSize);
        }
        let entries = u64::from(self.size);
        let parts = [
            (self.descriptors, 16, 16 * entries),
            (self.available, 2, 6 + 2 * entries),
            (self.used, 4, 6 + 8 * entries),
        ];
        let lies_in_ram = |&(address, align, len): &(u64, u64, u64)| {
            let offset = address.checked_sub(dma_offset)?;
            let end = offset.checked_add(len)?;
            (address.is_multiple_of(align) && end <= ram_size).then_some(())
        };
        parts.iter().try_for_each(lies_in_ram).ok_or(AttachError::Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            kind: DeviceKind::Block as u32,
            queue_count: 1,
            queue_size_max: 256,
            features: feature::VERSION_1 | feature::RING_EVENT_IDX,
            ..Device::default()
        }
    }

    fn attach() -> Attach {
        let mut attach =
            Attach { queue_count: 1, features: feature::VERSION_1, ..Attach::default() };
        attach.queues[0] = QueueSetup {
            descriptors: 0x1000,
            available: 0x2000,
            used: 0x3000,
            size: 256,
            reserved: [0; 3],
        };
        attach
    }

    #[test]
    fn a_well_formed_attach_is_taken() {
        let attach = attach();
        assert_eq!(Attach::parse(attach.as_bytes(), &device(), 0, 1 << 20), Ok(attach));
    }

    #[test]
    fn each_rule_refuses() {
        let check = |change: fn(&mut Attach), expect| {
            let mut attach = attach();
            change(&mut attach);
            let found = Attach::parse(attach.as_bytes(), &device(), 0, 1 << 20);
            assert_eq!(found, Err(expect));
        };
        check(|a| a.queue_count = 2, AttachError::QueueCount);
        check(|a| a.features = 0, AttachError::Features);
        check(|a| a.features |= 1, AttachError::Features);
        check(|a| a.queues[1].size = 1, AttachError::Reserved);
        check(|a| a.queues[0].reserved[2] = 1, AttachError::Reserved);
        check(|a| a.queues[0].size = 0, AttachError::QueueSize);
        check(|a| a.queues[0].size = 96, AttachError::QueueSize);
        check(|a| a.queues[0].size = 512, AttachError::QueueSize);
        check(|a| a.queues[0].descriptors = 0x1008, AttachError::Address);
        check(|a| a.queues[0].available = 0x2001, AttachError::Address);
        check(|a| a.queues[0].used = 0x3002, AttachError::Address);
        check(|a| a.queues[0].used = 1 << 20, AttachError::Address);
        check(|a| a.queues[0].descriptors = u64::MAX - 15, AttachError::Address);
        assert_eq!(Attach::parse(&[0; 8], &device(), 0, 1 << 20), Err(AttachError::Length));
    }

    #[test]
    fn modes_that_are_not_known_are_off() {
        for mode in [Ipv6Mode::Off, Ipv6Mode::Static, Ipv6Mode::Automatic] {
            let config = Ipv6Config { mode: mode as u8, ..Ipv6Config::default() };
            assert_eq!(config.mode(), mode);
        }
        let config = Ipv6Config { mode: 3, ..Ipv6Config::default() };
        assert_eq!(config.mode(), Ipv6Mode::Off);
    }

    #[test]
    fn device_addresses_are_relative_to_the_dma_offset() {
        let mut attach = attach();
        assert_eq!(
            Attach::parse(attach.as_bytes(), &device(), 0x2000, 1 << 20),
            Err(AttachError::Address)
        );
        for part in [0x3000, 0x4000, 0x5000] {
            attach.queues[0].descriptors = part;
        }
        attach.queues[0].used = 0x4000;
        assert!(Attach::parse(attach.as_bytes(), &device(), 0x2000, 1 << 20).is_ok());
    }
}
