//! The capabilities of a function: a linked list in its configuration space.
use super::configuration::Function;
use super::register;
use alloc::vec::Vec;

/// "Capabilities List" in the status register, the upper half of the command's 32 bits.
const STATUS_LIST: u32 = 1 << 20;
/// Capabilities lie above the header, each at least 4 bytes long and aligned so: there cannot be more.
const CAPABILITIES_MAX: usize = (256 - 64) / 4;

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capability {
    pub(super) id: u8,
    offset: u8,
}

impl Capability {
    /// The 32 bits at `offset` bytes into the capability. `None` beyond the configuration space.
    pub(super) fn read(self, function: &mut Function<'_>, offset: u8) -> Option<u32> {
        Some(function.read(self.offset.checked_add(offset)?))
    }

    /// Writes the first 32 bits of the capability.
    pub(super) fn write_first(self, function: &mut Function<'_>, value: u32) {
        function.write(self.offset, value);
    }
}

/// The capabilities in the order of the list, which may come from a hostile machine: it ends where it
/// leads back into the header or is longer than can be.
pub(super) fn list(function: &mut Function<'_>) -> Vec<Capability> {
    let mut capabilities = Vec::new();
    if function.read(register::COMMAND) & STATUS_LIST == 0 {
        return capabilities;
    }
    let mut next = function.read(register::CAPABILITIES).to_le_bytes()[0];
    while next >= 0x40 && capabilities.len() < CAPABILITIES_MAX {
        let offset = next & !3;
        let [id, following, ..] = function.read(offset).to_le_bytes();
        capabilities.push(Capability { id, offset });
        next = following;
    }
    capabilities
}
