//! Devices in use by a guest.
use super::model::{Core, FEATURE_MAC, FEATURE_MTU, FEATURE_SEG_MAX, Function, Machine, Queue};
use crate::virtio::Device;
use paravane_abi::device::{Attach, QueueSetup, feature};
use std::string::ToString;
use std::vec::Vec;

const MEMORY: u64 = 0xfe00_0000;

fn setup(index: u64) -> QueueSetup {
    let base = 0x12_3456_0000 + index * 0x1_0000;
    let (descriptors, available, used) = (base, base + 0x1000, base + 0x2000);
    QueueSetup { descriptors, available, used, size: 64, reserved: [0; 3] }
}

/// What a guest asks for that accepts `VERSION_1` and `features`.
fn attach(device: &Device, features: u64) -> Attach {
    let queue_count = u32::from(device.entry().queue_count);
    let features = features | feature::VERSION_1;
    let mut attach = Attach { device: 0, queue_count, features, ..Attach::default() };
    for index in 0..queue_count {
        attach.queues[index as usize] = setup(u64::from(index));
    }
    attach
}

fn queue(index: u64, vector: u16) -> Queue {
    let setup = setup(index);
    let addresses = [setup.descriptors, setup.available, setup.used];
    Queue { size: 64, addresses, is_ready: true, vector }
}

#[test]
fn an_mmio_device_gets_queues_and_features() {
    let mut machine = Machine::default();
    let core = machine.add_mmio(Core::net());
    let mut device = machine.device();
    assert!(!device.is_attached());
    device.attach(&attach(&device, feature::RING_EVENT_IDX)).unwrap();
    assert!(device.is_attached());
    let core = core.lock().unwrap();
    assert_eq!(core.status, 0xf);
    let expect = feature::VERSION_1 | feature::RING_EVENT_IDX | FEATURE_MAC | FEATURE_MTU;
    assert_eq!(core.accepted, expect);
    assert_eq!(core.queues[..2], [queue(0, 0xffff), queue(1, 0xffff)]);
    assert!(!core.queues[2].is_ready, "the contract knows two queues");
}

#[test]
fn a_pci_device_gets_queues_features_and_a_message() {
    let mut machine = Machine::default();
    let function = machine.bus.add((0, 2, 0), Function::virtio(Core::net(), MEMORY));
    let mut device = machine.device();
    assert_eq!(function.lock().unwrap().message[3], 1, "masked until it is routed");
    device.route_message(0xfee0_1000, 0x31);
    device.attach(&attach(&device, feature::NET_CSUM)).unwrap();
    let function = function.lock().unwrap();
    assert_eq!(function.message, [0xfee0_1000, 0, 0x31, 0]);
    assert!(function.messages_enabled() && function.is_enabled());
    let core = function.core.as_ref().unwrap().lock().unwrap();
    assert_eq!(core.status, 0xf);
    assert_eq!(core.accepted, feature::VERSION_1 | feature::NET_CSUM | FEATURE_MAC | FEATURE_MTU);
    assert_eq!(core.queues[..2], [queue(0, 0), queue(1, 0)]);
    assert_eq!(core.config_vector, 0);
}

#[test]
fn a_device_that_is_stopped_has_no_queues_any_more() {
    let mut machine = Machine::default();
    let core = machine.add_mmio(Core::net());
    let mut device = machine.device();
    device.attach(&attach(&device, 0)).unwrap();
    device.stop().unwrap();
    let core = core.lock().unwrap();
    assert_eq!(core.status, 0);
    assert!(core.queues.iter().all(|queue| !queue.is_ready));
}

#[test]
fn only_what_is_offered_is_accepted() {
    let mut machine = Machine::default();
    let core = machine.add_mmio(Core::block().with_features(feature::VERSION_1));
    let mut device = machine.device();
    device.attach(&attach(&device, 0)).unwrap();
    assert_eq!(core.lock().unwrap().accepted, feature::VERSION_1);

    let mut machine = Machine::default();
    let core = machine.add_mmio(Core::block());
    let mut device = machine.device();
    device.attach(&attach(&device, 0)).unwrap();
    assert_eq!(core.lock().unwrap().accepted, feature::VERSION_1 | FEATURE_SEG_MAX);
}

#[test]
fn notifications_reach_their_queue() {
    let mut machine = Machine::default();
    let mmio = machine.add_mmio(Core::net());
    let function = machine.bus.add((0, 2, 0), Function::virtio(Core::net(), MEMORY));
    let mut devices = machine.discover().unwrap();
    for device in &mut devices {
        // Not attached yet: the models would panic.
        device.notify(0);
        device.attach(&attach(device, 0)).unwrap();
        [1, 0, 1, 2, 9].into_iter().for_each(|queue| device.notify(queue));
    }
    let pci = function.lock().unwrap().core.clone().unwrap();
    for core in [mmio, pci] {
        assert_eq!(core.lock().unwrap().notified, [1, 0, 1]);
    }
}

#[test]
fn an_mmio_interrupt_is_lowered_and_says_why() {
    let mut machine = Machine::default();
    let core = machine.add_mmio(Core::block());
    let device = machine.device();
    for (pending, used) in [(0, false), (1, true), (2, false), (3, true)] {
        core.lock().unwrap().interrupt_status = pending;
        assert_eq!(device.acknowledge_interrupt(), used, "{pending}");
        assert_eq!(core.lock().unwrap().interrupt_status, 0);
    }
    // There is no message to route.
    device.route_message(0xfee0_0000, 0x30);
}

#[test]
fn a_message_means_used_buffers() {
    let mut machine = Machine::default();
    machine.bus.add((0, 2, 0), Function::virtio(Core::block(), MEMORY));
    assert!(machine.device().acknowledge_interrupt());
}

#[test]
fn a_device_that_gave_up_says_so() {
    let mut machine = Machine::default();
    let mmio = machine.add_mmio(Core::block());
    let function = machine.bus.add((0, 2, 0), Function::virtio(Core::block(), MEMORY));
    let pci = function.lock().unwrap().core.clone().unwrap();
    let mut devices = machine.discover().unwrap();
    for device in &mut devices {
        device.attach(&attach(device, 0)).unwrap();
        assert!(!device.needs_reset());
    }
    for core in [mmio, pci] {
        core.lock().unwrap().status |= 0x40;
    }
    assert!(devices.iter().all(Device::needs_reset));
}

/// The sentences with which a device refuses to be attached, on both transports.
fn refusals(core: &Core) -> Vec<String> {
    let mut machine = Machine::default();
    let mmio = machine.add_mmio(core.clone());
    let function = machine.bus.add((0, 2, 0), Function::virtio(core.clone(), MEMORY));
    let pci = function.lock().unwrap().core.clone().unwrap();
    let mut devices = machine.discover().unwrap();
    let refuse = |device: &mut Device| device.attach(&attach(device, 0)).unwrap_err().to_string();
    let refusals = devices.iter_mut().map(refuse).collect();
    for (device, core) in devices.iter().zip([mmio, pci]) {
        assert!(!device.is_attached());
        assert_eq!(core.lock().unwrap().status & 0x84, 0x80, "FAILED, and not DRIVER_OK");
    }
    refusals
}

#[test]
fn devices_that_refuse_are_given_up() {
    let expect = |fault: &str| {
        ["virtio-mmio at 0xfeb00000 ", "virtio-pci 00:02.0 "].map(|place| place.to_string() + fault)
    };
    assert_eq!(
        refusals(&Core { refuses_features: true, ..Core::block() }),
        expect("does not work with only the features 0x100000004 of those that it offers")
    );
    assert_eq!(
        refusals(&Core { keeps_queues: true, ..Core::net() }),
        expect("has its virtqueue 0 in use already")
    );
}

#[test]
fn a_queue_without_a_message_is_refused() {
    let mut machine = Machine::default();
    let mut function = Function::virtio(Core::block(), MEMORY);
    function.refuses_vectors = true;
    machine.bus.add((0, 2, 0), function);
    let mut device = machine.device();
    let refusal = device.attach(&attach(&device, 0)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "virtio-pci 00:02.0 has no message for the interrupts of its virtqueue 0"
    );
}
