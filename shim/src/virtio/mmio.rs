//! The MMIO transport (virtio 1.2, 4.2).
use super::command_line::Parameter;
use super::device::take_in_hand;
use super::transport::{CONFIG_LEN_MAX, Interrupt, Transport};
use super::{Device, DeviceError, Fault, Map, Place, Registers};
use alloc::boxed::Box;
use paravane_abi::device::{DeviceKind, QueueSetup};

/// "virt", the value of [`register::MAGIC`].
const MAGIC: u32 = 0x7472_6976;
/// Bit of `InterruptStatus`: the device used buffers.
const USED_BUFFERS: u32 = 1;

/// Offsets of registers (4.2.2). All have 32 bits; addresses are pairs of them, low half first.
mod register {
    pub(super) const MAGIC: u64 = 0;
    pub(super) const VERSION: u64 = 4;
    pub(super) const DEVICE_ID: u64 = 8;
    pub(super) const DEVICE_FEATURES: u64 = 0x10;
    pub(super) const DEVICE_FEATURES_SELECT: u64 = 0x14;
    pub(super) const DRIVER_FEATURES: u64 = 0x20;
    pub(super) const DRIVER_FEATURES_SELECT: u64 = 0x24;
    pub(super) const QUEUE_SELECT: u64 = 0x30;
    pub(super) const QUEUE_SIZE_MAX: u64 = 0x34;
    pub(super) const QUEUE_SIZE: u64 = 0x38;
    pub(super) const QUEUE_READY: u64 = 0x44;
    pub(super) const QUEUE_NOTIFY: u64 = 0x50;
    pub(super) const INTERRUPT_STATUS: u64 = 0x60;
    pub(super) const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
    pub(super) const STATUS: u64 = 0x70;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 0x80;
    pub(super) const QUEUE_DRIVER: u64 = 0x90;
    pub(super) const QUEUE_DEVICE: u64 = 0xa0;
    pub(super) const CONFIG_GENERATION: u64 = 0xfc;
    pub(super) const CONFIG: u64 = 0x100;
}

/// Takes the device that the command line names in hand. `None` if the slot is empty or holds another
/// kind of device.
pub(super) fn open(parameter: &Parameter, map: Map<'_>) -> Result<Option<Device>, DeviceError> {
    let place = Place::Mmio { base: parameter.base };
    let fault = |fault| DeviceError { place, fault };
    let Some((kind, transport)) = probe(parameter, map).map_err(fault)? else {
        return Ok(None);
    };
    Device::new(place, kind, Box::new(transport)).map(Some).map_err(fault)
}

fn probe(parameter: &Parameter, map: Map<'_>) -> Result<Option<(DeviceKind, Mmio)>, Fault> {
    let config_len = parameter.len.saturating_sub(register::CONFIG).min(CONFIG_LEN_MAX);
    if config_len == 0 {
        return Err(Fault::Short("MMIO", parameter.len));
    }
    let mut map = |base, len| map(base, len).ok_or(Fault::Unmappable(base));
    let registers = map(parameter.base, register::CONFIG)?;
    let Some(kind) = identify(&*registers)? else { return Ok(None) };
    let config = map(parameter.base + register::CONFIG, config_len)?;
    let transport = Mmio { registers, config, config_len, irq: parameter.irq };
    take_in_hand(&transport)?;
    Ok(Some((kind, transport)))
}

/// What the registers belong to. `None` for an empty slot or a kind of device that guests do not know.
fn identify(registers: &dyn Registers) -> Result<Option<DeviceKind>, Fault> {
    let magic = registers.read_u32(register::MAGIC);
    if magic != MAGIC {
        return Err(Fault::NotVirtio(magic));
    }
    let Some(kind) = DeviceKind::from_raw(registers.read_u32(register::DEVICE_ID)) else {
        return Ok(None);
    };
    match registers.read_u32(register::VERSION) {
        2 => Ok(Some(kind)),
        1 => Err(Fault::LegacyMmio),
        other => Err(Fault::Version(other)),
    }
}

#[derive(Debug)]
struct Mmio {
    registers: Box<dyn Registers>,
    config: Box<dyn Registers>,
    config_len: u64,
    irq: u32,
}

impl Mmio {
    fn select_queue(&self, queue: u16) {
        self.registers.write_u32(register::QUEUE_SELECT, u32::from(queue));
    }
}

impl Transport for Mmio {
    fn status(&self) -> u8 {
        (self.registers.read_u32(register::STATUS) & 0xff) as u8
    }

    fn set_status(&self, status: u8) {
        self.registers.write_u32(register::STATUS, u32::from(status));
    }

    fn features_half(&self, half: u32) -> u32 {
        self.registers.write_u32(register::DEVICE_FEATURES_SELECT, half);
        self.registers.read_u32(register::DEVICE_FEATURES)
    }

    fn accept_half(&self, half: u32, features: u32) {
        self.registers.write_u32(register::DRIVER_FEATURES_SELECT, half);
        self.registers.write_u32(register::DRIVER_FEATURES, features);
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        self.select_queue(queue);
        let size_max = self.registers.read_u32(register::QUEUE_SIZE_MAX);
        u16::try_from(size_max).unwrap_or(u16::MAX)
    }

    /// 4.2.3.2.
    fn set_up_queue(&self, queue: u16, setup: &QueueSetup) -> Result<(), Fault> {
        self.select_queue(queue);
        if self.registers.read_u32(register::QUEUE_READY) != 0 {
            return Err(Fault::QueueInUse(queue));
        }
        self.registers.write_u32(register::QUEUE_SIZE, u32::from(setup.size));
        self.registers.write_u64(register::QUEUE_DESCRIPTORS, setup.descriptors);
        self.registers.write_u64(register::QUEUE_DRIVER, setup.available);
        self.registers.write_u64(register::QUEUE_DEVICE, setup.used);
        self.registers.write_u32(register::QUEUE_READY, 1);
        Ok(())
    }

    fn config_generation(&self) -> u32 {
        self.registers.read_u32(register::CONFIG_GENERATION)
    }

    fn config(&self) -> (&dyn Registers, u64) {
        (&*self.config, self.config_len)
    }

    fn notify(&self, queue: u16) {
        self.registers.write_u32(register::QUEUE_NOTIFY, u32::from(queue));
    }

    fn interrupt(&self) -> Interrupt {
        Interrupt::Line(self.irq)
    }

    fn acknowledge_interrupt(&self) -> bool {
        let pending = self.registers.read_u32(register::INTERRUPT_STATUS);
        self.registers.write_u32(register::INTERRUPT_ACKNOWLEDGE, pending);
        pending & USED_BUFFERS != 0
    }

    fn route_message(&self, _address: u64, _data: u32) {}
}
