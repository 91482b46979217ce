//! The PCI transport (virtio 1.2, 4.1), modern interface only.
//!
//! Numbers without another source are those of the PCI Local Bus Specification 3.0, chapter 6.
mod bar;
mod bus;
mod capability;
mod configuration;
mod layout;
mod ports;
mod transport;

pub use configuration::{Address, Configuration};
pub use ports::Ports;

pub(super) use bus::functions;

use super::device::take_in_hand;
use super::entry::queue_count;
use super::{Device, DeviceError, Fault, Map, Place};
use alloc::boxed::Box;
use configuration::Function;
use layout::Layout;
use paravane_abi::device::DeviceKind;
use transport::Pci;

const VENDOR_VIRTIO: u32 = 0x1af4;

/// Registers of a configuration space: of every function, and of those that are devices.
mod register {
    pub(super) const ID: u8 = 0;
    pub(super) const COMMAND: u8 = 4;
    pub(super) const HEADER: u8 = 0xc;
    pub(super) const BARS: u8 = 0x10;
    pub(super) const BUSES: u8 = 0x18;
    pub(super) const SUBSYSTEM: u8 = 0x2c;
    pub(super) const CAPABILITIES: u8 = 0x34;
}

/// Bits of the command register.
mod command {
    pub(super) const MEMORY: u32 = 1 << 1;
    pub(super) const BUS_MASTER: u32 = 1 << 2;
}

/// Takes the function at `address` in hand if it is a device that guests know.
pub(super) fn open(
    configuration: &mut dyn Configuration,
    address: Address,
    map: Map<'_>,
) -> Result<Option<Device>, DeviceError> {
    let place = Place::Pci(address);
    let mut function = Function { configuration, address };
    let Some(kind) = kind(&mut function) else { return Ok(None) };
    prepare(&mut function, kind, map)
        .and_then(|transport| Device::new(place, kind, Box::new(transport)))
        .map(Some)
        .map_err(|fault| DeviceError { place, fault })
}

/// What the function is (4.1.2): the device ID itself, or the subsystem's for transitional devices.
fn kind(function: &mut Function<'_>) -> Option<DeviceKind> {
    let id = function.read(register::ID);
    if id & 0xffff != VENDOR_VIRTIO {
        return None;
    }
    match id >> 16 {
        0x1000..0x1040 => DeviceKind::from_raw(function.read(register::SUBSYSTEM) >> 16),
        modern @ 0x1040..0x1080 => DeviceKind::from_raw(modern - 0x1040),
        _ => None,
    }
}

fn prepare(function: &mut Function<'_>, kind: DeviceKind, map: Map<'_>) -> Result<Pci, Fault> {
    // Where registers lie is found out by writing to the base address registers: nothing may be decoded
    // meanwhile.
    function.change_command(command::MEMORY | command::BUS_MASTER, 0);
    let layout = Layout::read(function)?;
    function.change_command(0, command::MEMORY | command::BUS_MASTER);
    let mut transport = Pci::new(&layout, map)?;
    layout.messages.enable(function);
    take_in_hand(&transport)?;
    transport.prepare_queues(&layout, queue_count(kind), map)?;
    Ok(transport)
}
