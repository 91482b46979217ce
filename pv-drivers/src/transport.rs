//! The two hypercalls that drivers need, as a trait; and the negotiation in front of `ATTACH`.
use paravane_abi::device::{Attach, Device, QUEUES_MAX, QueueSetup, feature};

/// How a driver reaches the host.
pub trait Transport {
    /// Takes a device into use: the `ATTACH` hypercall.
    ///
    /// # Safety
    /// The rings lie in DMA memory that nobody but the driver uses from now on, for ever.
    ///
    /// # Errors
    /// The host's refusal.
    unsafe fn attach(&self, attach: &Attach) -> Result<(), TransportError>;

    /// Tells the device that a queue has new buffers: the `NOTIFY` hypercall. It cannot fail for a
    /// device that is attached.
    fn notify(&self, device: u32, queue: u16);
}

/// The host's negative answer to `ATTACH`: the result of the hypercall, a negated
/// [`paravane_abi::hypercall::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportError(pub i64);

/// Why a device could not be taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The entry of the device table describes another kind of device, or lacks a queue.
    Device,
    /// The device does not follow virtio 1.x.
    Version,
    /// Memory for the rings or the buffers ran out.
    Memory,
    /// The host refused.
    Host(TransportError),
}

/// The features to accept: those of `wanted` that are offered, and `VERSION_1`.
pub(crate) fn negotiate(device: &Device, wanted: u64) -> Result<u64, AttachError> {
    if device.features & feature::VERSION_1 == 0 {
        return Err(AttachError::Version);
    }
    Ok(device.features & wanted | feature::VERSION_1)
}

/// Hands the rings of device `index` over.
///
/// # Safety
/// As for [`Transport::attach`].
pub(crate) unsafe fn attach(
    transport: &impl Transport,
    index: u32,
    features: u64,
    setups: &[QueueSetup],
) -> Result<(), AttachError> {
    let mut queues = [QueueSetup::default(); QUEUES_MAX];
    for (queue, setup) in queues.iter_mut().zip(setups) {
        *queue = *setup;
    }
    let queue_count = u32::try_from(setups.len()).map_err(|_| AttachError::Device)?;
    let attach = Attach { device: index, queue_count, features, queues };
    // SAFETY: by the caller.
    unsafe { transport.attach(&attach) }.map_err(AttachError::Host)
}
