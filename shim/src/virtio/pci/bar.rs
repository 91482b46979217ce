//! Base address registers: where the memory of a function is.
use super::configuration::Function;
use super::register;
use crate::virtio::Fault;

const BARS_MAX: u8 = 6;
const IS_IO: u32 = 1;
const TYPE_MASK: u32 = 0b110;
const TYPE_64_BIT: u32 = 0b100;
const FLAGS: u64 = 0xf;

/// Part of the memory of a function, as capabilities describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// The base address register, see [`is_memory`].
    pub(super) bar: u8,
    /// Bytes from its address on.
    pub(super) offset: u32,
    /// Bytes.
    pub(super) len: u32,
}

/// A range of physical addresses that does not overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) physical: u64,
    pub(super) len: u64,
}

/// Whether `bar` is one that can give memory an address: registers may also be offered in I/O space and
/// in base address registers of later versions, which are to be ignored (virtio 1.2, 4.1.4).
pub(super) fn is_memory(function: &mut Function<'_>, bar: u8) -> bool {
    if bar >= BARS_MAX {
        return false;
    }
    let low = function.read(offset(bar));
    let is_64_bit = low & TYPE_MASK == TYPE_64_BIT;
    let is_32_bit = low & TYPE_MASK == 0;
    low & IS_IO == 0 && (is_32_bit || is_64_bit && bar + 1 < BARS_MAX)
}

impl Region {
    /// Where the region is, if all of it lies in its memory and begins at a multiple of `align`. The
    /// function must not decode memory meanwhile. `what` it holds is for the message.
    pub(super) fn locate(
        self,
        function: &mut Function<'_>,
        align: u32,
        what: &'static str,
    ) -> Result<Extent, Fault> {
        let bar = memory(function, self.bar);
        if bar.physical == 0 {
            return Err(Fault::Unassigned(self.bar));
        }
        let (offset, len) = (u64::from(self.offset), u64::from(self.len));
        let end = bar.physical.checked_add(bar.len);
        if !self.offset.is_multiple_of(align) || offset + len > bar.len || end.is_none() {
            return Err(Fault::Misplaced(what));
        }
        Ok(Extent { physical: bar.physical + offset, len })
    }
}

fn offset(bar: u8) -> u8 {
    register::BARS + 4 * bar
}

/// The memory of a register for which [`is_memory`] holds. Its length is found by writing ones: the bits
/// that stay zero are those of addresses within (6.2.5.1).
fn memory(function: &mut Function<'_>, bar: u8) -> Extent {
    let (low, low_ones) = probe(function, offset(bar));
    let is_64_bit = low & TYPE_MASK == TYPE_64_BIT;
    let (high, high_ones) =
        if is_64_bit { probe(function, offset(bar + 1)) } else { (0, u32::MAX) };
    let address = (u64::from(high) << 32 | u64::from(low)) & !FLAGS;
    let ones = (u64::from(high_ones) << 32 | u64::from(low_ones)) & !FLAGS;
    // The lowest bit that can be set is the length; none, if there is no such bit.
    Extent { physical: address, len: ones & ones.wrapping_neg() }
}

/// The value of a register, and what it holds of all ones.
fn probe(function: &mut Function<'_>, offset: u8) -> (u32, u32) {
    let value = function.read(offset);
    function.write(offset, u32::MAX);
    let ones = function.read(offset);
    function.write(offset, value);
    (value, ones)
}
