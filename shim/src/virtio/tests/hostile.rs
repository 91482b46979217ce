//! Machines that answer anything: nothing panics, nothing runs on without end, and nothing is mapped
//! that a device did not show to be its own.
use super::model::{Core, Function, Machine};
use crate::virtio::pci::{Address, Configuration};
use crate::virtio::{Device, DiscoverError, Registers, discover};
use paravane_abi::device::{Attach, feature};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// Registers that hold one value after the other, whatever is written to them.
#[derive(Clone, Debug)]
struct Noise {
    values: Arc<[u32]>,
    next: Arc<Mutex<usize>>,
}

impl Noise {
    fn new(values: &[u32]) -> Self {
        Self { values: values.into(), next: Arc::default() }
    }

    fn next(&self) -> u32 {
        let mut next = self.next.lock().unwrap();
        *next = (*next + 1) % self.values.len();
        self.values[*next]
    }
}

impl Registers for Noise {
    fn read_u8(&self, _: u64) -> u8 {
        (self.next() & 0xff) as u8
    }
    fn read_u16(&self, _: u64) -> u16 {
        (self.next() & 0xffff) as u16
    }
    fn read_u32(&self, _: u64) -> u32 {
        self.next()
    }
    fn write_u8(&self, _: u64, _: u8) {}
    fn write_u16(&self, _: u64, _: u16) {}
    fn write_u32(&self, _: u64, _: u32) {}
}

/// Configuration spaces that answer noise, in every slot of every bus.
struct AnySpace(Noise);

impl Configuration for AnySpace {
    fn read(&mut self, _: Address, _: u8) -> u32 {
        self.0.next()
    }
    fn write(&mut self, _: Address, _: u8, _: u32) {}
}

/// Does with the devices whatever the shim does.
fn use_all(found: Result<Vec<Device>, DiscoverError>) {
    for mut device in found.into_iter().flatten() {
        assert!(device.entry().queue_size_max.is_power_of_two());
        let queue_count = u32::from(device.entry().queue_count);
        let features = feature::VERSION_1;
        let attach = Attach { queue_count, features, ..Attach::default() };
        let _ = device.attach(&attach);
        device.route_message(0xfee0_0000, 0x30);
        (0..4).for_each(|queue| device.notify(queue));
        let _ = (device.acknowledge_interrupt(), device.needs_reset());
    }
}

/// Values that registers are compared with, and others.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..16_u32,
        2 => Just(u32::from_le_bytes(*b"virt")),
        2 => Just(0x1041_1af4),
        1 => Just(0x0010_0000),
        1 => Just(u32::MAX),
        2 => any::<u32>(),
    ]
}

fn values() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(value(), 1..24)
}

proptest! {
    #[test]
    fn any_mmio_registers_are_survived(values in values(), mut start in values()) {
        // The first three answers are those that identify a device.
        start.splice(0..0, [0, u32::from_le_bytes(*b"virt"), 1, 2]);
        for values in [values, start] {
            let noise = Noise::new(&values);
            let line = "virtio_mmio.device=4K@0x1000:5";
            use_all(discover(line, None, &mut |_, _| Some(Box::new(noise.clone()))));
        }
    }

    #[test]
    fn any_configuration_space_is_survived(space in values(), registers in values()) {
        let mut space = AnySpace(Noise::new(&space));
        let noise = Noise::new(&registers);
        use_all(discover("", Some(&mut space), &mut |_, _| Some(Box::new(noise.clone()))));
    }

    /// A device that is right but for some bytes of its configuration space and all of its registers.
    #[test]
    fn any_change_of_a_device_is_survived(
        changes in prop::collection::vec((any::<u8>(), any::<u8>()), 0..6),
        registers in values(),
    ) {
        let mut function = Function::virtio(Core::net(), 0xfe00_0000);
        // Not the command register: the model refuses access to memory that is not decoded.
        for (offset, value) in changes.into_iter().filter(|(offset, _)| *offset >= 8) {
            function.set_byte(offset, value);
        }
        let mut machine = Machine::default();
        let function = machine.bus.add((0, 1, 0), function);
        let noise = Noise::new(&registers);
        let mut mapped = Vec::new();
        let found = discover("", Some(&mut machine.bus), &mut |physical, len| {
            mapped.push((physical, len));
            Some(Box::new(noise.clone()))
        });
        use_all(found);
        let function = function.lock().unwrap();
        for (physical, len) in mapped {
            let is_inside = (0..6).any(|bar| {
                let (start, bar_len) = function.memory(bar);
                let end = u128::from(start) + u128::from(bar_len);
                physical >= start && u128::from(physical) + u128::from(len) <= end
            });
            prop_assert!(is_inside, "{len} bytes at {physical:#x}");
        }
    }
}
