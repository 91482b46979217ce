//! What can be wrong with the machine's devices.
use super::{ParameterError, Place};

/// The machine's devices cannot be handed to a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// The command line names a device that it does not describe.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A network or block device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// More devices than the device table has entries.
    #[error(
        "the machine has more than {} network and block devices: the guest's device table holds no more",
        paravane_abi::device::DEVICES_MAX
    )]
    TooMany,
}

/// A device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{place} {fault}")]
pub struct DeviceError {
    /// The device.
    pub place: Place,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a device. The messages continue a sentence that begins with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The registers do not begin with the magic value.
    #[error("does not answer as a virtio device: its first register is {0:#010x}")]
    NotVirtio(u32),
    /// A virtio-mmio device of before virtio 1.0.
    #[error(
        "offers only the legacy interface: under QEMU, add -global virtio-mmio.force-legacy=false"
    )]
    LegacyMmio,
    /// A version of the register layout that is not known.
    #[error("has registers of version {0}, where only version 2 is known")]
    Version(u32),
    /// A virtio-pci device of before virtio 1.0.
    #[error("offers only the legacy interface: under QEMU, give the device disable-modern=off")]
    LegacyPci,
    /// The device can only interrupt by lines, which PCI shares and firmware routes.
    #[error("has no MSI-X interrupts: under QEMU, give the device vectors=2 or leave vectors out")]
    NoMessages,
    /// A base address register holds no address.
    #[error(
        "has no address for its registers (BAR {0}): neither firmware nor the machine's monitor set one"
    )]
    Unassigned(u8),
    /// Registers lie outside the memory that their base address register decodes, or are misaligned.
    #[error("has {0} registers that do not lie in their memory")]
    Misplaced(&'static str),
    /// Fewer registers than virtio defines.
    #[error("has only {1} bytes of {0} registers")]
    Short(&'static str, u64),
    /// The registers cannot be made accessible.
    #[error("has registers at {0:#x}, which cannot be mapped")]
    Unmappable(u64),
    /// The status never became 0.
    #[error("does not come out of reset")]
    Reset,
    /// `VERSION_1` is missing.
    #[error("does not offer virtio 1.0 or later (VERSION_1)")]
    NotVersion1,
    /// A queue that the kind of device has is missing.
    #[error("has no virtqueue {0}")]
    NoQueue(u16),
    /// A queue is in use right after reset.
    #[error("has its virtqueue {0} in use already")]
    QueueInUse(u16),
    /// The configuration changed at every reading.
    #[error("changes its configuration without end")]
    Unsettled,
    /// `FEATURES_OK` did not stay set.
    #[error("does not work with only the features {0:#x} of those that it offers")]
    Features(u64),
    /// No message could be assigned to a queue.
    #[error("has no message for the interrupts of its virtqueue {0}")]
    Vector(u16),
}
