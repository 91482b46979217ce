//! The machine's configuration space, by way of I/O ports: configuration mechanism 1 of the PCI Local
//! Bus Specification 3.0, 3.2.2.3.2.
use super::{Address, Configuration};
use x86_64::instructions::port::Port;

const ENABLE: u32 = 1 << 31;

/// The two ports of the host bridge.
#[derive(Debug)]
pub struct Ports {
    address: Port<u32>,
    data: Port<u32>,
}

impl Ports {
    /// The ports, if the machine has a host bridge there.
    ///
    /// # Safety
    /// This code may access I/O ports, and is the only one that accesses 0xcf8 to 0xcff.
    #[must_use]
    pub unsafe fn detect() -> Option<Self> {
        let mut ports = Self { address: Port::new(0xcf8), data: Port::new(0xcfc) };
        // SAFETY: The caller owns the ports. A machine without a host bridge ignores the address.
        let found = unsafe {
            ports.address.write(ENABLE);
            ports.address.read()
        };
        (found == ENABLE).then_some(ports)
    }

    fn select(&mut self, address: Address, offset: u8) {
        let (bus, device) = (u32::from(address.bus), u32::from(address.device & 31));
        let function = u32::from(address.function & 7);
        let place = bus << 16 | device << 11 | function << 8 | u32::from(offset & 0xfc);
        // SAFETY: The ports belong to this value, by the contract of `detect`.
        unsafe { self.address.write(ENABLE | place) }
    }
}

impl Configuration for Ports {
    fn read(&mut self, address: Address, offset: u8) -> u32 {
        self.select(address, offset);
        // SAFETY: As in `select`.
        unsafe { self.data.read() }
    }

    fn write(&mut self, address: Address, offset: u8, value: u32) {
        self.select(address, offset);
        // SAFETY: As in `select`. What a write can do to the machine, such as moving the memory that a
        // device decodes, is up to the callers in this module, who write to virtio devices alone.
        unsafe { self.data.write(value) }
    }
}
