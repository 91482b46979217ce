//! A device in the hands of the shim: from reset to the guest's use of it.
use super::entry::{describe, features_read};
use super::transport::{Interrupt, Transport, status};
use super::{DeviceError, Fault, Place};
use alloc::boxed::Box;
use paravane_abi::device::{Attach, Device as Entry, DeviceKind};

/// How often the status is read after a reset until it must be 0. Each reading leaves a virtual
/// machine, which takes it at least a microsecond, and its devices reset at once.
const RESET_READS_MAX: u32 = 100_000;

const IN_HAND: u8 = status::ACKNOWLEDGE | status::DRIVER;
const NEGOTIATED: u8 = IN_HAND | status::FEATURES_OK;

/// A network or block device of the machine.
#[derive(Debug)]
pub struct Device {
    place: Place,
    kind: DeviceKind,
    entry: Entry,
    features_read: u64,
    is_attached: bool,
    transport: Box<dyn Transport>,
}

/// Resets a device and tells it that it has a driver (virtio 1.2, 3.1.1, steps 1 to 3).
pub(super) fn take_in_hand(transport: &dyn Transport) -> Result<(), Fault> {
    reset(transport)?;
    transport.set_status(status::ACKNOWLEDGE);
    transport.set_status(IN_HAND);
    Ok(())
}

fn reset(transport: &dyn Transport) -> Result<(), Fault> {
    transport.set_status(0);
    let is_reset = (0..RESET_READS_MAX).any(|_| transport.status() == 0);
    if is_reset { Ok(()) } else { Err(Fault::Reset) }
}

impl Device {
    /// A device that was taken in hand.
    pub(super) fn new(
        place: Place,
        kind: DeviceKind,
        transport: Box<dyn Transport>,
    ) -> Result<Self, Fault> {
        let offered = transport.features_offered();
        let entry = describe(kind, offered, &*transport)?;
        let features_read = offered & features_read(kind);
        Ok(Self { place, kind, entry, features_read, is_attached: false, transport })
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Its entry of the guest's device table, without what only the operator knows: the tag and the IPv4
    /// configuration. A network device that leaves its Ethernet address to the driver has address 0.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// How it interrupts.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.transport.interrupt()
    }

    /// From now on interrupts of the device write `data` to the physical `address`. Does nothing for
    /// [`Interrupt::Line`].
    pub fn route_message(&self, address: u64, data: u32) {
        self.transport.route_message(address, data);
    }

    /// Hands the guest's rings to the device (virtio 1.2, 3.1.1, steps 4 to 8), which works on them from
    /// now on. `attach` was validated against [`Device::entry`] by [`Attach::parse`], and the device was
    /// not attached before.
    ///
    /// # Errors
    /// The device refuses, and cannot be attached any more.
    pub fn attach(&mut self, attach: &Attach) -> Result<(), DeviceError> {
        if let Err(fault) = self.negotiate(attach) {
            self.transport.set_status(self.transport.status() | status::FAILED);
            return Err(DeviceError { place: self.place, fault });
        }
        self.is_attached = true;
        Ok(())
    }

    fn negotiate(&self, attach: &Attach) -> Result<(), Fault> {
        let features = attach.features | self.features_read;
        self.transport.accept_features(features);
        self.transport.set_status(NEGOTIATED);
        if self.transport.status() & status::FEATURES_OK == 0 {
            return Err(Fault::Features(features));
        }
        for (queue, setup) in (0..self.entry.queue_count).zip(&attach.queues) {
            self.transport.set_up_queue(queue, setup)?;
        }
        self.transport.set_status(NEGOTIATED | status::DRIVER_OK);
        Ok(())
    }

    /// Whether [`Device::attach`] succeeded.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.is_attached
    }

    /// Tells the device that there are buffers in `queue`. Does nothing for a device that is not attached
    /// and for queues that it does not have.
    pub fn notify(&self, queue: u16) {
        if self.is_attached && queue < self.entry.queue_count {
            self.transport.notify(queue);
        }
    }

    /// Lowers the interrupt of the device. True if it used buffers, which is all that a message can
    /// mean.
    #[must_use]
    pub fn acknowledge_interrupt(&self) -> bool {
        self.transport.acknowledge_interrupt()
    }

    /// Resets the device: it does not touch memory any more.
    ///
    /// # Errors
    /// It does not come out of reset.
    pub fn stop(&self) -> Result<(), DeviceError> {
        reset(&*self.transport).map_err(|fault| DeviceError { place: self.place, fault })
    }

    /// Whether the device gave up (`DEVICE_NEEDS_RESET`), as QEMU's do when a ring is malformed: the
    /// guest broke the contract.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.transport.status() & status::DEVICE_NEEDS_RESET != 0
    }
}
