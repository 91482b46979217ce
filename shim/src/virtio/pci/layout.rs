//! Where a virtio function has its registers (virtio 1.2, 4.1.4), and its interrupt messages.
use super::bar::{self, Extent, Region};
use super::capability::{self, Capability};
use super::configuration::Function;
use crate::virtio::Fault;
use crate::virtio::transport::CONFIG_LEN_MAX;

/// Capability IDs.
const VENDOR: u8 = 9;
const MSI_X: u8 = 0x11;

/// `cfg_type` of virtio's capabilities.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// Offset of the fields of virtio's capabilities.
mod field {
    pub(super) const BAR: u8 = 4;
    pub(super) const OFFSET: u8 = 8;
    pub(super) const LEN: u8 = 12;
    pub(super) const NOTIFY_MULTIPLIER: u8 = 16;
}

/// Bytes of the common configuration, as of virtio 1.0.
pub(super) const COMMON_LEN: u64 = 56;
/// Bytes of a message of the MSI-X table.
pub(super) const MESSAGE_LEN: u32 = 16;

/// Bits of MSI-X message control, the upper half of the capability's first 32 bits.
const MSI_X_ENABLE: u32 = 1 << 31;
const MSI_X_MASK_ALL: u32 = 1 << 30;

/// Physical addresses of everything that the shim uses.
#[derive(Debug)]
pub(super) struct Layout {
    /// The common configuration, [`COMMON_LEN`] bytes.
    pub(super) common: Extent,
    /// Where queues are notified.
    pub(super) notify: Extent,
    /// Bytes from one `queue_notify_off` to the next.
    pub(super) notify_multiplier: u32,
    /// The configuration of the device's kind.
    pub(super) config: Extent,
    pub(super) messages: Messages,
}

/// The interrupt messages of a function (6.8.2).
#[derive(Debug)]
pub(super) struct Messages {
    capability: Capability,
    /// Message 0 of the table, [`MESSAGE_LEN`] bytes.
    pub(super) first: Extent,
}

impl Layout {
    /// Reads the capabilities of a function that does not decode memory meanwhile. Of each kind the first
    /// that can be used counts.
    pub(super) fn read(function: &mut Function<'_>) -> Result<Self, Fault> {
        let capabilities = capability::list(function);
        let mut find = |kind| structure(function, &capabilities, kind).ok_or(Fault::LegacyPci);
        let (_, common) = find(COMMON)?;
        let (notify_capability, notify) = find(NOTIFY)?;
        let (_, config) = find(DEVICE)?;
        let mut common = common.locate(function, 4, "common")?;
        if common.len < COMMON_LEN {
            return Err(Fault::Short("common", common.len));
        }
        common.len = COMMON_LEN;
        let mut config = config.locate(function, 4, "configuration")?;
        config.len = config.len.min(CONFIG_LEN_MAX);
        Ok(Self {
            common,
            notify: notify.locate(function, 2, "notification")?,
            notify_multiplier: notify_capability
                .read(function, field::NOTIFY_MULTIPLIER)
                .ok_or(Fault::LegacyPci)?,
            config,
            messages: Messages::read(function, &capabilities)?,
        })
    }
}

/// The first virtio structure of this kind in memory.
fn structure(
    function: &mut Function<'_>,
    capabilities: &[Capability],
    kind: u8,
) -> Option<(Capability, Region)> {
    let found = capabilities.iter().filter(|capability| capability.id == VENDOR);
    found.copied().find_map(|capability| {
        let [_, _, _, found_kind] = capability.read(function, 0)?.to_le_bytes();
        let [bar, ..] = capability.read(function, field::BAR)?.to_le_bytes();
        let offset = capability.read(function, field::OFFSET)?;
        let len = capability.read(function, field::LEN)?;
        (found_kind == kind && bar::is_memory(function, bar))
            .then_some((capability, Region { bar, offset, len }))
    })
}

impl Messages {
    fn read(function: &mut Function<'_>, capabilities: &[Capability]) -> Result<Self, Fault> {
        let found = capabilities.iter().find(|capability| capability.id == MSI_X);
        let capability = *found.ok_or(Fault::NoMessages)?;
        let table = capability.read(function, 4).ok_or(Fault::NoMessages)?;
        let [low, ..] = table.to_le_bytes();
        let bar = low & 7;
        if !bar::is_memory(function, bar) {
            return Err(Fault::Misplaced("MSI-X"));
        }
        let region = Region { bar, offset: table & !7, len: MESSAGE_LEN };
        Ok(Self { capability, first: region.locate(function, 8, "MSI-X")? })
    }

    /// Lets the function interrupt with the messages that are not masked in the table.
    pub(super) fn enable(&self, function: &mut Function<'_>) {
        if let Some(first) = self.capability.read(function, 0) {
            self.capability.write_first(function, first & !MSI_X_MASK_ALL | MSI_X_ENABLE);
        }
    }
}
