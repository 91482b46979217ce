//! The registers of the MMIO transport (4.2.2).
use super::{Core, Shared};
use crate::virtio::Registers;

const CONFIG: u64 = 0x100;

/// Part of a device's registers, as it was mapped.
#[derive(Debug)]
pub(super) struct MmioWindow {
    pub(super) core: Shared<Core>,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl MmioWindow {
    fn at(&self, offset: u64, len: u64) -> u64 {
        assert!(offset + len <= self.len, "an access outside the window");
        self.start + offset
    }

    fn read_config<const LEN: usize>(&self, offset: u64) -> [u8; LEN] {
        let offset = self.at(offset, LEN as u64).checked_sub(CONFIG);
        self.core.lock().unwrap().read_config(offset.expect("32-bit register read otherwise"))
    }
}

impl Registers for MmioWindow {
    fn read_u8(&self, offset: u64) -> u8 {
        u8::from_le_bytes(self.read_config(offset))
    }

    fn read_u16(&self, offset: u64) -> u16 {
        u16::from_le_bytes(self.read_config(offset))
    }

    fn read_u32(&self, offset: u64) -> u32 {
        let mut core = self.core.lock().unwrap();
        match self.at(offset, 4) {
            0 => core.magic,
            4 => core.version,
            8 => core.id,
            0x10 => core.features(),
            0x34 => u32::from(core.queue_size_max()),
            0x44 => u32::from(core.selected().is_ready),
            0x60 => core.interrupt_status,
            0x70 => u32::from(core.status()),
            0xfc => core.generation,
            config @ CONFIG.. => u32::from_le_bytes(core.read_config(config - CONFIG)),
            other => panic!("register {other:#x} is read"),
        }
    }

    fn write_u8(&self, offset: u64, _value: u8) {
        panic!("8 bits are written at {:#x}", self.at(offset, 1));
    }

    fn write_u16(&self, offset: u64, _value: u16) {
        panic!("16 bits are written at {:#x}", self.at(offset, 2));
    }

    fn write_u32(&self, offset: u64, value: u32) {
        let mut core = self.core.lock().unwrap();
        match self.at(offset, 4) {
            0x14 => core.device_half = value,
            0x20 => core.accept(value),
            0x24 => core.driver_half = value,
            0x30 => core.queue = value.try_into().unwrap(),
            0x38 => core.set_up().size = value.try_into().unwrap(),
            0x44 => core.set_ready(value),
            0x50 => core.notify(value.try_into().unwrap()),
            0x64 => {
                assert_eq!(value & !core.interrupt_status, 0, "acknowledged, not pending");
                core.interrupt_status &= !value;
            }
            0x70 => core.set_status(value.try_into().unwrap()),
            part @ (0x80 | 0x84) => core.set_address(0, part, value),
            part @ (0x90 | 0x94) => core.set_address(1, part, value),
            part @ (0xa0 | 0xa4) => core.set_address(2, part, value),
            other => panic!("register {other:#x} is written"),
        }
    }
}
