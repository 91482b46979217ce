//! The walk over all buses: bus 0 and those behind bridges.
use super::configuration::Function;
use super::{Address, Configuration, register};
use alloc::vec;
use alloc::vec::Vec;

const NO_DEVICE: u32 = 0xffff;
const HEADER_BRIDGE: u32 = 1;
const HEADER_MULTIFUNCTION: u32 = 0x80;

/// All functions but bridges: those of bus 0, then those behind its bridges in their order. Each bus is
/// visited once, whatever the bridges say.
pub(in crate::virtio) fn functions(configuration: &mut dyn Configuration) -> Vec<Address> {
    let mut walk = Walk { configuration, buses: vec![0], functions: Vec::new() };
    let mut visited = 0;
    while let Some(&bus) = walk.buses.get(visited) {
        (0..32).for_each(|device| walk.device(bus, device));
        visited += 1;
    }
    walk.functions
}

struct Walk<'a> {
    configuration: &'a mut dyn Configuration,
    /// The buses seen so far, in the order of their visits.
    buses: Vec<u8>,
    functions: Vec<Address>,
}

impl Walk<'_> {
    fn device(&mut self, bus: u8, device: u8) {
        let functions = if self.function(bus, device, 0) { 8 } else { 1 };
        for function in 1..functions {
            self.function(bus, device, function);
        }
    }

    /// Visits a function. True if its device has several.
    fn function(&mut self, bus: u8, device: u8, function: u8) -> bool {
        let address = Address { bus, device, function };
        let mut space = Function { configuration: self.configuration, address };
        if space.read(register::ID) & 0xffff == NO_DEVICE {
            return false;
        }
        let header = space.read(register::HEADER) >> 16;
        if header & 0x7f == HEADER_BRIDGE {
            let secondary = space.read(register::BUSES).to_le_bytes()[1];
            if !self.buses.contains(&secondary) {
                self.buses.push(secondary);
            }
        } else {
            self.functions.push(address);
        }
        header & HEADER_MULTIFUNCTION != 0
    }
}
