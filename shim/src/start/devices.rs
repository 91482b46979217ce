//! The machine's devices, as the guest is told of them.
use super::error::StartError;
use crate::machine::apic::{Apic, ApicError};
use crate::machine::cpu::{self, CpuError};
use crate::machine::interrupts::{DEVICE_VECTOR, SERIAL_VECTOR};
use crate::machine::paging::{Tables, Use};
use crate::machine::serial;
use crate::virtio::pci::{Configuration, Ports};
use crate::virtio::{self, Device, DiscoverError, Interrupt, Registers, Window};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec::Vec;
use paravane_abi::device::{Device as Entry, DeviceKind, Ipv6Config, SECTOR_SIZE};
use paravane_host::bundle::Bundle;
use paravane_host::devices::{self, NET_TAG};
use paravane_host::image::Image;

/// Finds the devices.
pub(super) fn discover(
    command_line: &str,
    tables: &mut Tables,
) -> Result<Vec<Device>, DiscoverError> {
    let mut map = |physical, len| -> Option<Box<dyn Registers>> {
        let base = tables.map_physical(physical, len, Use::Device).ok()?;
        // SAFETY: mapped for ever, and a device's: firmware or the machine's monitor says so.
        Some(Box::new(unsafe { Window::new(base, len) }))
    };
    // SAFETY: ring 0, and nobody else uses the ports.
    let mut ports = unsafe { Ports::detect() };
    let pci = ports.as_mut().map(|ports| ports as &mut dyn Configuration);
    virtio::discover(command_line, pci, &mut map)
}

/// The device table: what the devices say, and what the operator calls them.
///
/// # Errors
/// A device leaves its Ethernet address to us, and there is no randomness to make one of.
pub(super) fn describe(devices: &[Device], bundle: &Bundle<'_>) -> Result<Vec<Entry>, CpuError> {
    let mut disks = bundle.disks.iter();
    let describe = |device: &Device| {
        let mut entry = *device.entry();
        match device.kind() {
            DeviceKind::Net => {
                entry.tag[..NET_TAG.len()].copy_from_slice(NET_TAG.as_bytes());
                if entry.net.mac == [0; 6] {
                    entry.net.mac = random_mac()?;
                }
                entry.net.ipv4_address = bundle.ipv4.address;
                entry.net.ipv4_gateway = bundle.ipv4.gateway;
                entry.net.ipv4_dns = bundle.ipv4.dns;
                entry.net.ipv4_prefix_len = bundle.ipv4.prefix_len;
            }
            DeviceKind::Block => entry.tag = disks.next().copied().unwrap_or_default(),
        }
        Ok(entry)
    };
    devices.iter().map(describe).collect()
}

/// IPv6 of the devices in `table`, as the bundle has it for every network.
pub(super) fn ipv6(table: &[Entry], bundle: &Bundle<'_>) -> Vec<Ipv6Config> {
    let is_net = |entry: &Entry| entry.kind == DeviceKind::Net as u32;
    table
        .iter()
        .map(|entry| if is_net(entry) { bundle.ipv6 } else { Ipv6Config::default() })
        .collect()
}

/// A locally administered Ethernet address (IEEE 802, 8.2.2).
fn random_mac() -> Result<[u8; 6], CpuError> {
    let mut mac = [0; 6];
    cpu::fill_random(&mut mac)?;
    mac[0] = mac[0] & !0b01 | 0b10;
    Ok(mac)
}

/// Checks that the devices that the image requires are there, and the bundle's own disk as long as it was.
pub(super) fn check(image: &Image, table: &[Entry], bundle: &Bundle<'_>) -> Result<(), StartError> {
    if let Some(kind) = devices::missing(image.manifest(), table) {
        let (device, remedy) = match kind {
            DeviceKind::Net => ("network", "-netdev with virtio-net-device or virtio-net-pci"),
            DeviceKind::Block => ("block", "-drive with virtio-blk-device or virtio-blk-pci"),
        };
        let image = image.manifest().name().to_owned();
        return Err(StartError::MissingDevice { image, device, remedy });
    }
    let own = table.iter().find(|entry| entry.kind == DeviceKind::Block as u32);
    let have = own.map_or(u64::MAX, |entry| entry.block.capacity.saturating_mul(SECTOR_SIZE));
    let need = bundle.file_len;
    if bundle.is_own_disk && have < need {
        return Err(StartError::TruncatedDisk { have, need });
    }
    Ok(())
}

/// Gives every device a vector of its own, and the serial line one.
pub(super) fn route(apic: &Apic, devices: &[Device]) -> Result<(), ApicError> {
    for (vector, device) in (DEVICE_VECTOR..).zip(devices) {
        match device.interrupt() {
            Interrupt::Line(line) => apic.route_line(line, vector)?,
            Interrupt::Message => {
                let (address, data) = apic.message(vector);
                device.route_message(address, data);
            }
        }
    }
    apic.route_line(serial::IRQ, SERIAL_VECTOR)
}
