//! The device table's entries.
use super::model::{Core, FEATURE_MAC, FEATURE_MTU, FEATURE_SEG_MAX, Function, Machine};
use paravane_abi::device::{BlockConfig, Device as Entry, NetConfig, feature};

/// The entry of the same device on both transports.
fn entry(core: Core) -> Entry {
    let mut machine = Machine::default();
    machine.add_mmio(core.clone());
    machine.bus.add((0, 2, 0), Function::virtio(core, 0xfe00_0000));
    let [mmio, pci] = <[_; 2]>::try_from(machine.discover().unwrap()).unwrap();
    assert_eq!(mmio.entry(), pci.entry());
    *mmio.entry()
}

#[test]
fn a_network_device_is_described() {
    let net =
        NetConfig { mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56], mtu: 9000, ..NetConfig::default() };
    let features =
        feature::NET_CSUM | feature::NET_MRG_RXBUF | feature::RING_EVENT_IDX | feature::VERSION_1;
    let expect =
        Entry { kind: 1, queue_count: 2, queue_size_max: 256, features, net, ..Entry::default() };
    assert_eq!(entry(Core::net()), expect);
}

#[test]
fn a_block_device_is_described() {
    let block =
        BlockConfig { capacity: 0x1_0000_0002, segments_max: 254, discard_sectors_max: 0x3f_ffff };
    let features =
        feature::BLK_FLUSH | feature::BLK_DISCARD | feature::RING_EVENT_IDX | feature::VERSION_1;
    let expect =
        Entry { kind: 2, queue_count: 1, queue_size_max: 256, features, block, ..Entry::default() };
    assert_eq!(entry(Core::block()), expect);
}

#[test]
fn every_feature_of_the_contract_is_offered_by_its_kind_alone() {
    let net = feature::NET_CSUM
        | feature::NET_GUEST_CSUM
        | feature::NET_GUEST_TSO4
        | feature::NET_GUEST_TSO6
        | feature::NET_HOST_TSO6
        | feature::NET_HOST_TSO4
        | feature::NET_MRG_RXBUF;
    let block = feature::BLK_RO | feature::BLK_FLUSH | feature::BLK_DISCARD;
    let common = feature::RING_EVENT_IDX | feature::VERSION_1;
    assert_eq!(entry(Core::net().with_features(!0)).features, net | common);
    assert_eq!(entry(Core::block().with_features(!0)).features, block | common);
}

#[test]
fn what_is_not_offered_has_its_default() {
    let net = entry(Core::net().with_features(feature::VERSION_1)).net;
    assert_eq!(net, NetConfig { mtu: 1500, ..NetConfig::default() });
    let net = entry(Core::net().with_features(feature::VERSION_1 | FEATURE_MAC)).net;
    assert_eq!((net.mac[0], net.mtu), (0x52, 1500));
    let net = entry(Core::net().with_features(feature::VERSION_1 | FEATURE_MTU)).net;
    assert_eq!((net.mac, net.mtu), ([0; 6], 9000));
    let block = entry(Core::block().with_features(feature::VERSION_1)).block;
    let capacity = 0x1_0000_0002;
    assert_eq!(block, BlockConfig { capacity, segments_max: 1, discard_sectors_max: 0 });
    let block = entry(Core::block().with_features(feature::VERSION_1 | FEATURE_SEG_MAX)).block;
    assert_eq!(block, BlockConfig { capacity, segments_max: 254, discard_sectors_max: 0 });
}

#[test]
fn no_segments_at_all_are_one() {
    let mut core = Core::block();
    core.config[12..16].fill(0);
    assert_eq!(entry(core).block.segments_max, 1);
}

#[test]
fn the_queues_have_the_largest_size_that_all_take() {
    let check = |sizes: &[u16], expect| {
        let core = Core { queue_sizes_max: sizes.into(), ..Core::net() };
        assert_eq!(entry(core).queue_size_max, expect, "{sizes:?}");
    };
    check(&[256, 256], 256);
    check(&[1024, 64], 64);
    check(&[2048, 32768], 1024);
    check(&[1023, 1024], 512);
    check(&[1, 3], 1);
    check(&[128, 128, 1], 128);
}

#[test]
fn a_configuration_that_changes_meanwhile_is_read_again() {
    let mut core = Core::block();
    let mut next = core.config.clone();
    next[..8].copy_from_slice(&0xffff_ffff_u64.to_le_bytes());
    core.config_next.push(next);
    // Never 0x1_0000_0000 with the lower half of the next.
    assert_eq!(entry(core).block.capacity, 0xffff_ffff);
}
