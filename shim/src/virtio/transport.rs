//! What both transports can do.
use super::{Fault, Registers};
use core::fmt;
use paravane_abi::device::QueueSetup;

/// Bits of the device status (virtio 1.2, 2.1).
pub(super) mod status {
    pub(in crate::virtio) const ACKNOWLEDGE: u8 = 1;
    pub(in crate::virtio) const DRIVER: u8 = 2;
    pub(in crate::virtio) const DRIVER_OK: u8 = 4;
    pub(in crate::virtio) const FEATURES_OK: u8 = 8;
    pub(in crate::virtio) const DEVICE_NEEDS_RESET: u8 = 0x40;
    pub(in crate::virtio) const FAILED: u8 = 0x80;
}

/// Most bytes of a configuration that are looked at: network and block devices need less.
pub(super) const CONFIG_LEN_MAX: u64 = 64;

/// How a device interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// On a line to the interrupt controller, of this number, which stays raised until
    /// [`Device::acknowledge_interrupt`](super::Device::acknowledge_interrupt).
    Line(u32),
    /// With the message given to [`Device::route_message`](super::Device::route_message).
    Message,
}

/// The registers that a transport has for every kind of device.
pub(super) trait Transport: fmt::Debug + Send {
    fn status(&self) -> u8;
    fn set_status(&self, status: u8);
    /// Features 32 `half` to 32 `half` + 31 that the device offers.
    fn features_half(&self, half: u32) -> u32;
    /// Accepts these of the same features.
    fn accept_half(&self, half: u32, features: u32);

    fn features_offered(&self) -> u64 {
        u64::from(self.features_half(0)) | u64::from(self.features_half(1)) << 32
    }

    fn accept_features(&self, features: u64) {
        self.accept_half(0, (features & 0xffff_ffff) as u32);
        self.accept_half(1, (features >> 32) as u32);
    }

    /// Most entries of `queue`; 0 if there is no such queue.
    fn queue_size_max(&self, queue: u16) -> u16;
    /// Hands a queue to the device.
    fn set_up_queue(&self, queue: u16, setup: &QueueSetup) -> Result<(), Fault>;
    /// Number of the configuration's state: another one after every change.
    fn config_generation(&self) -> u32;
    /// The configuration of the device's kind, and its length in bytes.
    fn config(&self) -> (&dyn Registers, u64);
    fn notify(&self, queue: u16);
    fn interrupt(&self) -> Interrupt;
    /// Lowers the interrupt. True if the device used buffers.
    fn acknowledge_interrupt(&self) -> bool;
    /// Makes the device interrupt by writing `data` to `address`.
    fn route_message(&self, address: u64, data: u32);
}
