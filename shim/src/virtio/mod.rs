//! The machine's virtio devices, handed to the guest.
//!
//! The shim finds the devices, tells the guest of them in the device table, and sets up the virtqueues
//! that the guest made. It never touches a ring itself: the machine's devices work on the guest's own
//! rings, and all that passes through here afterwards is notifications and interrupts.
//!
//! Two transports of virtio 1.2 are known: MMIO (section 4.2), with devices named on the command line,
//! and PCI (section 4.1). Only the modern interface is used. Whatever the machine answers, nothing
//! here panics or waits without end: it is an error, which says what the operator can do about it.
mod command_line;
mod device;
mod entry;
mod error;
mod mmio;
pub mod pci;
mod registers;
#[cfg(test)]
mod tests;
mod transport;
mod window;

pub use command_line::{DEVICE_PARAMETER, ParameterError};
pub use device::Device;
pub use error::{DeviceError, DiscoverError, Fault};
pub use registers::{Map, Registers};
pub use transport::Interrupt;
pub use window::Window;

use alloc::vec::Vec;
use core::fmt;
use paravane_abi::device::DEVICES_MAX;

/// Where the machine has a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A device of the MMIO transport.
    Mmio {
        /// Physical address of its registers.
        base: u64,
    },
    /// A device of the PCI transport.
    Pci(pci::Address),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mmio { base } => write!(f, "virtio-mmio at {base:#x}"),
            Self::Pci(address) => write!(f, "virtio-pci {address}"),
        }
    }
}

/// Finds the machine's network and block devices and makes them ready for [`Device::attach`]: those
/// that `command_line` names with [`DEVICE_PARAMETER`], in the order in which it does, then those in
/// the slots of `pci`, by bus, device and function. Other kinds of devices are left alone.
///
/// `map` makes physical addresses accessible; it is asked for every window of registers in use.
///
/// # Errors
/// The command line is malformed, a device cannot be used, or there are more than the device table
/// holds.
pub fn discover(
    command_line: &str,
    pci: Option<&mut dyn pci::Configuration>,
    map: Map<'_>,
) -> Result<Vec<Device>, DiscoverError> {
    let mut devices = Vec::new();
    for parameter in command_line::parse(command_line) {
        devices.extend(mmio::open(&parameter?, map)?);
        check_count(&devices)?;
    }
    if let Some(configuration) = pci {
        for address in pci::functions(configuration) {
            devices.extend(pci::open(configuration, address, map)?);
            check_count(&devices)?;
        }
    }
    Ok(devices)
}

fn check_count(devices: &[Device]) -> Result<(), DiscoverError> {
    if devices.len() > DEVICES_MAX { Err(DiscoverError::TooMany) } else { Ok(()) }
}
