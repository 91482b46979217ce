//! Configuration space: 256 bytes of each function.
use super::register;
use core::fmt;

/// A function of a device on a bus, written `bus:device.function` in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// 0 to 255.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// Access to the configuration spaces of the machine. Offsets are multiples of 4; where there is no
/// function, reading gives ones.
pub trait Configuration {
    /// Reads 32 bits.
    fn read(&mut self, address: Address, offset: u8) -> u32;
    /// Writes 32 bits.
    fn write(&mut self, address: Address, offset: u8, value: u32);
}

/// The configuration space of one function.
pub(super) struct Function<'a> {
    pub(super) configuration: &'a mut dyn Configuration,
    pub(super) address: Address,
}

impl Function<'_> {
    pub(super) fn read(&mut self, offset: u8) -> u32 {
        self.configuration.read(self.address, offset)
    }

    pub(super) fn write(&mut self, offset: u8, value: u32) {
        self.configuration.write(self.address, offset, value);
    }

    /// Clears and sets bits of the command register. Of the status register above it, whose bits are
    /// cleared by writing ones, nothing changes.
    pub(super) fn change_command(&mut self, clear: u32, set: u32) {
        let command = self.read(register::COMMAND) & 0xffff;
        self.write(register::COMMAND, command & !clear | set);
    }
}
