//! How a device's registers are reached.
use alloc::boxed::Box;
use core::fmt;

/// A window of a device's registers, little-endian. Offsets are in bytes from its beginning.
///
/// An access that does not lie in the window reads as ones and writes nothing, as on a bus where
/// nobody answers.
pub trait Registers: fmt::Debug + Send {
    /// Reads the 8-bit register at `offset`.
    fn read_u8(&self, offset: u64) -> u8;
    /// Reads the 16-bit register at `offset`.
    fn read_u16(&self, offset: u64) -> u16;
    /// Reads the 32-bit register at `offset`.
    fn read_u32(&self, offset: u64) -> u32;
    /// Writes the 8-bit register at `offset`.
    fn write_u8(&self, offset: u64, value: u8);
    /// Writes the 16-bit register at `offset`.
    fn write_u16(&self, offset: u64, value: u16);
    /// Writes the 32-bit register at `offset`.
    fn write_u32(&self, offset: u64, value: u32);

    /// Writes the 64-bit register at `offset` in its two halves, as both transports ask for (virtio
    /// 1.2, 4.1.3.1 and 4.2.2.2).
    fn write_u64(&self, offset: u64, value: u64) {
        self.write_u32(offset, (value & 0xffff_ffff) as u32);
        self.write_u32(offset + 4, (value >> 32) as u32);
    }
}

/// Makes `(physical address, length)` accessible, or says with `None` that it cannot. The same page may
/// be asked for several times.
pub type Map<'a> = &'a mut dyn FnMut(u64, u64) -> Option<Box<dyn Registers>>;
