//! The registers of the PCI transport (virtio 1.2, 4.1.4.3).
use super::bar::Extent;
use super::layout::Layout;
use crate::virtio::transport::{Interrupt, Transport};
use crate::virtio::{Fault, Map, Registers};
use alloc::boxed::Box;
use alloc::vec::Vec;
use paravane_abi::device::QueueSetup;

/// Offsets in the common configuration.
mod register {
    pub(super) const DEVICE_FEATURES_SELECT: u64 = 0;
    pub(super) const DEVICE_FEATURES: u64 = 4;
    pub(super) const DRIVER_FEATURES_SELECT: u64 = 8;
    pub(super) const DRIVER_FEATURES: u64 = 12;
    pub(super) const CONFIG_VECTOR: u64 = 16;
    pub(super) const STATUS: u64 = 20;
    pub(super) const CONFIG_GENERATION: u64 = 21;
    pub(super) const QUEUE_SELECT: u64 = 22;
    pub(super) const QUEUE_SIZE: u64 = 24;
    pub(super) const QUEUE_VECTOR: u64 = 26;
    pub(super) const QUEUE_ENABLE: u64 = 28;
    pub(super) const QUEUE_NOTIFY_OFFSET: u64 = 30;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 32;
    pub(super) const QUEUE_DRIVER: u64 = 40;
    pub(super) const QUEUE_DEVICE: u64 = 48;
}

/// Offsets in a message of the MSI-X table.
mod message {
    pub(super) const ADDRESS: u64 = 0;
    pub(super) const DATA: u64 = 8;
    pub(super) const CONTROL: u64 = 12;
}

const MESSAGE_MASKED: u32 = 1;
/// The message of all queues, and of changes of the configuration: as such a device announces that it gave
/// up (virtio 1.2, 2.1.2).
const VECTOR: u16 = 0;
/// Bytes of a notification: the number of the queue.
const NOTIFICATION_LEN: u64 = 2;

#[derive(Debug)]
pub(super) struct Pci {
    common: Box<dyn Registers>,
    config: Box<dyn Registers>,
    config_len: u64,
    message: Box<dyn Registers>,
    /// One window for each queue.
    notify: Vec<Box<dyn Registers>>,
}

fn mapped(extent: Extent, map: Map<'_>) -> Result<Box<dyn Registers>, Fault> {
    map(extent.physical, extent.len).ok_or(Fault::Unmappable(extent.physical))
}

impl Pci {
    /// The registers, with the message masked.
    pub(super) fn new(layout: &Layout, map: Map<'_>) -> Result<Self, Fault> {
        let message = mapped(layout.messages.first, map)?;
        message.write_u32(message::CONTROL, MESSAGE_MASKED);
        Ok(Self {
            common: mapped(layout.common, map)?,
            config: mapped(layout.config, map)?,
            config_len: layout.config.len,
            message,
            notify: Vec::new(),
        })
    }

    /// Finds out where the queues of a device in hand are notified (4.1.4.4), and has it announce
    /// changes of its configuration.
    pub(super) fn prepare_queues(
        &mut self,
        layout: &Layout,
        count: u16,
        map: Map<'_>,
    ) -> Result<(), Fault> {
        self.common.write_u16(register::CONFIG_VECTOR, VECTOR);
        for queue in 0..count {
            self.select_queue(queue);
            let index = u64::from(self.common.read_u16(register::QUEUE_NOTIFY_OFFSET));
            let offset = index * u64::from(layout.notify_multiplier);
            if offset + NOTIFICATION_LEN > layout.notify.len || !offset.is_multiple_of(2) {
                return Err(Fault::Misplaced("notification"));
            }
            let physical = layout.notify.physical + offset;
            self.notify.push(mapped(Extent { physical, len: NOTIFICATION_LEN }, map)?);
        }
        Ok(())
    }

    fn select_queue(&self, queue: u16) {
        self.common.write_u16(register::QUEUE_SELECT, queue);
    }
}

impl Transport for Pci {
    fn status(&self) -> u8 {
        self.common.read_u8(register::STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common.write_u8(register::STATUS, status);
    }

    fn features_half(&self, half: u32) -> u32 {
        self.common.write_u32(register::DEVICE_FEATURES_SELECT, half);
        self.common.read_u32(register::DEVICE_FEATURES)
    }

    fn accept_half(&self, half: u32, features: u32) {
        self.common.write_u32(register::DRIVER_FEATURES_SELECT, half);
        self.common.write_u32(register::DRIVER_FEATURES, features);
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        self.select_queue(queue);
        self.common.read_u16(register::QUEUE_SIZE)
    }

    /// 4.1.5.1.3. A device that has no room for the vector says so when it is read back (4.1.5.1.2).
    fn set_up_queue(&self, queue: u16, setup: &QueueSetup) -> Result<(), Fault> {
        self.select_queue(queue);
        if self.common.read_u16(register::QUEUE_ENABLE) != 0 {
            return Err(Fault::QueueInUse(queue));
        }
        self.common.write_u16(register::QUEUE_SIZE, setup.size);
        self.common.write_u16(register::QUEUE_VECTOR, VECTOR);
        if self.common.read_u16(register::QUEUE_VECTOR) != VECTOR {
            return Err(Fault::Vector(queue));
        }
        self.common.write_u64(register::QUEUE_DESCRIPTORS, setup.descriptors);
        self.common.write_u64(register::QUEUE_DRIVER, setup.available);
        self.common.write_u64(register::QUEUE_DEVICE, setup.used);
        self.common.write_u16(register::QUEUE_ENABLE, 1);
        Ok(())
    }

    fn config_generation(&self) -> u32 {
        u32::from(self.common.read_u8(register::CONFIG_GENERATION))
    }

    fn config(&self) -> (&dyn Registers, u64) {
        (&*self.config, self.config_len)
    }

    fn notify(&self, queue: u16) {
        if let Some(window) = self.notify.get(usize::from(queue)) {
            window.write_u16(0, queue);
        }
    }

    fn interrupt(&self) -> Interrupt {
        Interrupt::Message
    }

    /// A message is not raised or lowered: there is nothing to acknowledge.
    fn acknowledge_interrupt(&self) -> bool {
        true
    }

    fn route_message(&self, address: u64, data: u32) {
        self.message.write_u64(message::ADDRESS, address);
        self.message.write_u32(message::DATA, data);
        self.message.write_u32(message::CONTROL, 0);
    }
}
