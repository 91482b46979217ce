//! What is found, in which order, and with which sentence the rest is refused.
use super::model::{Core, FEATURE_MTU, FEATURE_SEG_MAX, Function, Machine, Structure};
use crate::virtio::{DiscoverError, Interrupt, discover};
use paravane_abi::device::{DeviceKind, feature};
use std::string::ToString;
use std::vec::Vec;

const MEMORY: u64 = 0xfe00_0000;

fn places(machine: &Machine) -> Vec<String> {
    let found = machine.discover().unwrap();
    found.iter().map(|device| device.place().to_string()).collect()
}

#[test]
fn devices_are_in_the_order_of_command_line_and_slots() {
    let mut machine = Machine::default();
    machine.add_mmio(Core::block());
    machine.add_mmio(Core::net());
    machine.bus.add((0, 3, 0), Function::virtio(Core::net(), MEMORY));
    machine.bus.add((0, 2, 0), Function::virtio(Core::block(), MEMORY + 0x8000).transitional());
    let found = machine.discover().unwrap();
    let expect = [
        ("virtio-mmio at 0xfeb00000", DeviceKind::Block, Interrupt::Line(5)),
        ("virtio-mmio at 0xfeb00200", DeviceKind::Net, Interrupt::Line(6)),
        ("virtio-pci 00:02.0", DeviceKind::Block, Interrupt::Message),
        ("virtio-pci 00:03.0", DeviceKind::Net, Interrupt::Message),
    ];
    assert_eq!(found.len(), expect.len());
    for (device, (place, kind, interrupt)) in found.iter().zip(expect) {
        assert_eq!(device.place().to_string(), place);
        assert_eq!(device.kind(), kind, "{place}");
        assert_eq!(device.interrupt(), interrupt, "{place}");
    }
}

#[test]
fn a_machine_without_devices_has_none() {
    assert_eq!(Machine::default().discover().unwrap().len(), 0);
    let none = discover("quiet", None, &mut |_, _| None);
    assert_eq!(none.unwrap().len(), 0);
}

#[test]
fn empty_slots_and_other_devices_are_left_alone() {
    let mut machine = Machine::default();
    for id in [0, 4, 19] {
        let legacy = Core { id, version: 1, ..Core::net() };
        machine.add_mmio(legacy);
    }
    machine.bus.add((0, 0, 0), Function::plain(0x8086, 0x29c0));
    machine.bus.add((0, 1, 0), Function::plain(0x8086, 0x1041));
    machine.bus.add((0, 2, 0), Function::virtio_bare(Core { id: 4, ..Core::net() }));
    machine.bus.add((0, 3, 0), Function::virtio_bare(Core { id: 4, ..Core::net() }).transitional());
    machine.bus.add((0, 4, 0), Function::plain(0x1af4, 0x1110));
    assert_eq!(places(&machine), [""; 0]);
}

#[test]
fn more_devices_than_the_table_holds_are_refused() {
    let mut machine = Machine::default();
    for _ in 0..16 {
        machine.add_mmio(Core::net());
    }
    assert_eq!(machine.discover().unwrap().len(), 16);
    machine.bus.add((0, 2, 0), Function::virtio(Core::block(), MEMORY));
    assert_eq!(machine.discover().unwrap_err(), DiscoverError::TooMany);
    machine.bus = Default::default();
    machine.add_mmio(Core::net());
    assert_eq!(
        machine.refusal(),
        "the machine has more than 16 network and block devices: the guest's device table holds no more"
    );
}

#[test]
fn a_malformed_command_line_is_refused() {
    let refusal = discover("virtio_mmio.device=x", None, &mut |_, _| None).unwrap_err();
    assert!(matches!(refusal, DiscoverError::Parameter(_)));
}

#[test]
fn mmio_devices_that_cannot_be_used_are_refused() {
    let check = |core: Core, expect: &str| {
        let mut machine = Machine::default();
        machine.add_mmio(core);
        assert_eq!(machine.refusal(), std::format!("virtio-mmio at 0xfeb00000 {expect}"));
    };
    check(
        Core { version: 1, ..Core::net() },
        "offers only the legacy interface: under QEMU, add -global virtio-mmio.force-legacy=false",
    );
    check(
        Core { version: 3, ..Core::net() },
        "has registers of version 3, where only version 2 is known",
    );
    check(
        Core { magic: 0xffff_ffff, ..Core::net() },
        "does not answer as a virtio device: its first register is 0xffffffff",
    );
    check(Core { never_resets: true, ..Core::net() }, "does not come out of reset");
    check(Core::block().with_features(1 << 2), "does not offer virtio 1.0 or later (VERSION_1)");
    check(Core { queue_sizes_max: vec![256], ..Core::net() }, "has no virtqueue 1");
    check(Core { config_churns: true, ..Core::net() }, "changes its configuration without end");
}

#[test]
fn windows_that_are_short_or_cannot_be_mapped_are_refused() {
    let check = |parameter: &str, expect: &str| {
        let refusal = discover(parameter, None, &mut |_, _| None).unwrap_err();
        assert_eq!(refusal.to_string(), expect);
    };
    check(
        "virtio_mmio.device=256@0x1000:5",
        "virtio-mmio at 0x1000 has only 256 bytes of MMIO registers",
    );
    check(
        "virtio_mmio.device=4K@0x1000:5",
        "virtio-mmio at 0x1000 has registers at 0x1000, which cannot be mapped",
    );
    let mut machine = Machine::default();
    machine.add_mmio(Core::block());
    let short = "virtio_mmio.device=0x110@0xfeb00000:5";
    let refusal = discover(short, None, &mut |base, len| machine.map(base, len)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "virtio-mmio at 0xfeb00000 has only 16 bytes of configuration registers"
    );
}

/// A block device whose registers were changed.
fn refusal(change: impl FnOnce(&mut Function)) -> String {
    let mut function = Function::virtio(Core::block(), MEMORY);
    change(&mut function);
    let mut machine = Machine::default();
    machine.bus.add((0, 5, 1), Function::plain(0x1af4, 0x1042));
    machine.bus.add((0, 5, 0), function);
    let refusal = machine.refusal();
    refusal.strip_prefix("virtio-pci 00:05.0 ").unwrap().into()
}

#[test]
fn pci_devices_that_cannot_be_used_are_refused() {
    assert_eq!(
        refusal(|function| *function = Function::virtio_bare(Core::block()).transitional()),
        "offers only the legacy interface: under QEMU, give the device disable-modern=off"
    );
    assert_eq!(
        refusal(|function| function.add_bar(4, 0, 0x4000)),
        "has no address for its registers (BAR 4): neither firmware nor the machine's monitor set one"
    );
    assert_eq!(
        refusal(|function| function.core.as_ref().unwrap().lock().unwrap().never_resets = true),
        "does not come out of reset"
    );
}

#[test]
fn pci_devices_without_messages_are_refused() {
    assert_eq!(
        refusal(|function| {
            *function = Function::virtio_bare(Core::block());
            function.add_bar(4, MEMORY, 0x4000);
            function.add(Structure::Common, 4, 0, 0x1000);
            function.add(Structure::Device, 4, 0x2000, 0x1000);
            function.add(Structure::Notify, 4, 0x3000, 0x1000);
        }),
        "has no MSI-X interrupts: under QEMU, give the device vectors=2 or leave vectors out"
    );
}

/// The sentence about a device with one structure elsewhere.
fn refusal_of(structure: Structure, offset: u32, len: u32) -> String {
    refusal(|function| {
        *function = Function::virtio_bare(Core::block());
        function.add_bar(4, MEMORY, 0x4000);
        function.add(structure, 4, offset, len);
        function.add(Structure::Common, 4, 0, 0x1000);
        function.add(Structure::Device, 4, 0x2000, 0x1000);
        function.add(Structure::Notify, 4, 0x3000, 0x1000);
        function.add_messages(4, 0x1000);
    })
}

#[test]
fn structures_outside_their_memory_are_refused() {
    let outside = |what| std::format!("has {what} registers that do not lie in their memory");
    assert_eq!(refusal_of(Structure::Common, 0x3fcc, 56), outside("common"));
    assert_eq!(refusal_of(Structure::Common, 2, 56), outside("common"));
    assert_eq!(refusal_of(Structure::Common, u32::MAX - 3, u32::MAX), outside("common"));
    assert_eq!(refusal_of(Structure::Notify, 0x3000, 0x1001), outside("notification"));
    assert_eq!(refusal_of(Structure::Notify, 0x3000, 1), outside("notification"));
    assert_eq!(refusal_of(Structure::Notify, 0x3001, 2), outside("notification"));
    assert_eq!(refusal_of(Structure::Device, 0x4000, 1), outside("configuration"));
    assert_eq!(refusal(|f| f.set_byte(0x45, 0x10)), outside("MSI-X"));
    assert_eq!(refusal(|f| f.set_byte(0x44, 6)), outside("MSI-X"));
}

#[test]
fn short_common_registers_are_refused() {
    assert_eq!(refusal_of(Structure::Common, 0, 55), "has only 55 bytes of common registers");
}

#[test]
fn a_configuration_needs_to_have_what_is_read_and_no_more() {
    let check = |core: &Core, features, len: u32| {
        let found = |len| {
            let core = core.clone().with_features(feature::VERSION_1 | features);
            let mut function = Function::virtio_bare(core);
            function.add_bar(4, MEMORY, 0x4000);
            function.add(Structure::Common, 4, 0, 56);
            function.add(Structure::Device, 4, 0x2000, len);
            function.add(Structure::Notify, 4, 0x3000, 0x1000);
            function.add_messages(4, 0x1000);
            let mut machine = Machine::default();
            machine.bus.add((0, 5, 0), function);
            machine.discover().map(|found| found.len())
        };
        assert_eq!(found(len), Ok(1), "{features:#x}");
        let refusal = found(len - 1).unwrap_err().to_string();
        let expect = std::format!("has only {} bytes of configuration registers", len - 1);
        assert!(refusal.ends_with(&expect), "{refusal}");
    };
    check(&Core::net(), 0, 6);
    check(&Core::net(), FEATURE_MTU, 12);
    check(&Core::block(), 0, 8);
    check(&Core::block(), FEATURE_SEG_MAX, 16);
    check(&Core::block(), FEATURE_SEG_MAX | feature::BLK_DISCARD, 40);
}
