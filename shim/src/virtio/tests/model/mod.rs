//! A machine with virtio devices. Its devices panic when a driver breaks a rule of virtio 1.2, so that
//! each test is also one of the order of accesses and of their widths.
mod core;
mod mmio;
mod pci;

pub(super) use self::core::{Core, FEATURE_MAC, FEATURE_MTU, FEATURE_SEG_MAX, Queue};
pub(super) use self::pci::{Bus, Function, Structure};

use crate::virtio::{Device, DiscoverError, Registers, discover};
use mmio::MmioWindow;
use std::format;
use std::string::String;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

pub(super) type Shared<T> = Arc<Mutex<T>>;

pub(super) fn shared<T>(value: T) -> Shared<T> {
    Arc::new(Mutex::new(value))
}

/// Bytes of the registers of an MMIO device, as in QEMU's microvm.
const MMIO_LEN: u64 = 512;

/// The machine: devices of both transports.
#[derive(Clone, Default)]
pub(super) struct Machine {
    mmio: Vec<Shared<Core>>,
    pub(super) bus: Bus,
}

impl Machine {
    /// Adds an MMIO device. Gives a handle on it.
    pub(super) fn add_mmio(&mut self, core: Core) -> Shared<Core> {
        let core = shared(core);
        self.mmio.push(core.clone());
        core
    }

    /// The physical address of an MMIO device.
    pub(super) fn mmio_base(index: usize) -> u64 {
        0xfeb0_0000 + index as u64 * MMIO_LEN
    }

    /// What the machine's monitor adds to the command line.
    pub(super) fn command_line(&self) -> String {
        let words = (0..self.mmio.len()).map(|index| {
            format!("virtio_mmio.device={MMIO_LEN}@{:#x}:{}", Self::mmio_base(index), 5 + index)
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The machine's address space, as far as it is registers.
    pub(super) fn map(&self, physical: u64, len: u64) -> Option<Box<dyn Registers>> {
        let mmio = self.mmio.iter().enumerate().find_map(|(index, core)| {
            let start = physical.checked_sub(Self::mmio_base(index))?;
            (start + len <= MMIO_LEN).then(|| MmioWindow { core: core.clone(), start, len })
        });
        match mmio {
            Some(window) => Some(Box::new(window)),
            None => self.bus.map(physical, len),
        }
    }

    /// What the shim finds.
    pub(super) fn discover(&self) -> Result<Vec<Device>, DiscoverError> {
        let mut bus = self.bus.clone();
        discover(&self.command_line(), Some(&mut bus), &mut |physical, len| self.map(physical, len))
    }

    /// The one device that the shim finds.
    pub(super) fn device(&self) -> Device {
        let [device] = <[_; 1]>::try_from(self.discover().unwrap()).unwrap();
        device
    }

    /// The sentence with which the shim refuses the machine.
    pub(super) fn refusal(&self) -> String {
        format!("{}", self.discover().unwrap_err())
    }
}
