//! The device table's entry of a device, from its features and configuration (virtio 1.2, 5.1.4 and
//! 5.2.4).
use super::transport::Transport;
use super::{Fault, Registers};
use paravane_abi::device::{
    BlockConfig, Device as Entry, DeviceKind, NetConfig, QUEUE_SIZE_MAX, feature,
};

/// The device has an MTU (5.1.3).
const NET_MTU: u64 = 1 << 3;
/// The device has an Ethernet address (5.1.3).
const NET_MAC: u64 = 1 << 5;
/// The device limits the segments of a request (5.2.3).
const BLK_SEG_MAX: u64 = 1 << 2;

const NET_FEATURES: u64 = feature::NET_CSUM
    | feature::NET_GUEST_CSUM
    | feature::NET_GUEST_TSO4
    | feature::NET_GUEST_TSO6
    | feature::NET_HOST_TSO4
    | feature::NET_HOST_TSO6
    | feature::NET_MRG_RXBUF;
const BLK_FEATURES: u64 = feature::BLK_RO | feature::BLK_FLUSH | feature::BLK_DISCARD;
const COMMON_FEATURES: u64 = feature::RING_EVENT_IDX | feature::VERSION_1;

/// MTU of Ethernet: of a device that names none.
const MTU_DEFAULT: u16 = 1500;

/// How often the configuration is read until it must not change meanwhile.
const READS_MAX: u32 = 16;

/// The features whose part of the configuration is in the entry. They are accepted on behalf of the
/// guest.
pub(super) const fn features_read(kind: DeviceKind) -> u64 {
    match kind {
        DeviceKind::Net => NET_MTU | NET_MAC,
        DeviceKind::Block => BLK_SEG_MAX,
    }
}

/// The queues that the contract knows: a device may have more, which stay unused.
pub(super) const fn queue_count(kind: DeviceKind) -> u16 {
    match kind {
        DeviceKind::Net => 2,
        DeviceKind::Block => 1,
    }
}

/// The entry of a device that offers the features `offered`.
pub(super) fn describe(
    kind: DeviceKind,
    offered: u64,
    transport: &dyn Transport,
) -> Result<Entry, Fault> {
    if offered & feature::VERSION_1 == 0 {
        return Err(Fault::NotVersion1);
    }
    let (_, config_len) = transport.config();
    if config_len < config_len_min(kind, offered) {
        return Err(Fault::Short("configuration", config_len));
    }
    let mut entry = Entry {
        kind: kind as u32,
        queue_count: queue_count(kind),
        queue_size_max: queue_size_max(queue_count(kind), transport)?,
        features: offered & (COMMON_FEATURES | features_known(kind)),
        ..Entry::default()
    };
    match kind {
        DeviceKind::Net => entry.net = settled(transport, |config| net(config, offered))?,
        DeviceKind::Block => entry.block = settled(transport, |config| block(config, offered))?,
    }
    Ok(entry)
}

const fn features_known(kind: DeviceKind) -> u64 {
    match kind {
        DeviceKind::Net => NET_FEATURES,
        DeviceKind::Block => BLK_FEATURES,
    }
}

/// Bytes up to the end of the last field that is read.
const fn config_len_min(kind: DeviceKind, offered: u64) -> u64 {
    match kind {
        DeviceKind::Net if offered & NET_MTU != 0 => 12,
        DeviceKind::Net => 6,
        DeviceKind::Block if offered & feature::BLK_DISCARD != 0 => 40,
        DeviceKind::Block if offered & BLK_SEG_MAX != 0 => 16,
        DeviceKind::Block => 8,
    }
}

/// The largest power of two that every queue takes and the contract allows.
fn queue_size_max(count: u16, transport: &dyn Transport) -> Result<u16, Fault> {
    let mut size_max = QUEUE_SIZE_MAX;
    for queue in 0..count {
        size_max = size_max.min(transport.queue_size_max(queue));
        if size_max == 0 {
            return Err(Fault::NoQueue(queue));
        }
    }
    Ok(1 << size_max.ilog2())
}

/// Reads from the configuration until it does not change meanwhile (2.5.1.1).
fn settled<T>(transport: &dyn Transport, read: impl Fn(&dyn Registers) -> T) -> Result<T, Fault> {
    let mut generation = transport.config_generation();
    for _ in 0..READS_MAX {
        let value = read(transport.config().0);
        let before = core::mem::replace(&mut generation, transport.config_generation());
        if before == generation {
            return Ok(value);
        }
    }
    Err(Fault::Unsettled)
}

fn net(config: &dyn Registers, offered: u64) -> NetConfig {
    let mut net = NetConfig { mtu: MTU_DEFAULT, ..NetConfig::default() };
    if offered & NET_MAC != 0 {
        net.mac = [0, 1, 2, 3, 4, 5].map(|offset| config.read_u8(offset));
    }
    if offered & NET_MTU != 0 {
        net.mtu = config.read_u16(10);
    }
    net
}

fn block(config: &dyn Registers, offered: u64) -> BlockConfig {
    let capacity = u64::from(config.read_u32(0)) | u64::from(config.read_u32(4)) << 32;
    let mut block = BlockConfig { capacity, segments_max: 1, discard_sectors_max: 0 };
    if offered & BLK_SEG_MAX != 0 {
        block.segments_max = config.read_u32(12).max(1);
    }
    if offered & feature::BLK_DISCARD != 0 {
        block.discard_sectors_max = config.read_u32(36);
    }
    block
}
