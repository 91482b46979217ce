//! The start info page: all that a guest knows when it is entered.
//!
//! A guest is entered at the ELF entry point in 64-bit mode at CPL 3, with `rdi` = the virtual address
//! of its [`StartInfo`], `rsp` = the top of stack slot 0 less 8 (as after a call, so that functions see
//! their usual alignment), direction flag clear, MXCSR and x87 control word at their reset defaults,
//! SSE and AVX usable, `rdfsbase` and `wrfsbase` usable, all other registers zero.
use crate::device::{DEVICES_MAX, Device, Ipv6Config};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes of the start info page.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PARAVANE");

/// Bytes of entropy in the start info.
pub const SEED_LEN: usize = 64;

/// Longest command line, bytes.
pub const COMMAND_LINE_LEN_MAX: usize = 1024;

/// The start info page. OUT, read-only to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// The contract that the host speaks, see [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// Bytes of this structure; grows with minor versions.
    pub size: u32,
    /// Feature bits of the host; none is defined.
    pub features: u64,
    /// Virtual address of RAM offset 0: [`crate::layout::RAM_BASE`].
    pub ram_base: u64,
    /// Size of RAM, bytes.
    pub ram_size: u64,
    /// RAM offset of the first page behind the image.
    pub image_end: u64,
    /// RAM offset of stack slot 0.
    pub stack_base: u64,
    /// Bytes of a stack slot; its lowest page is not mapped.
    pub stack_size: u32,
    /// Number of stack slots.
    pub stack_slots: u32,
    /// Virtual address of the hypercall page.
    pub hypercall_page: u64,
    /// Virtual address of the [`crate::time::TimePage`].
    pub time_page: u64,
    /// Device address of RAM offset 0.
    pub dma_offset: u64,
    /// Virtual address of the configuration blob.
    pub config: u64,
    /// Bytes of the configuration blob.
    pub config_len: u32,
    /// Bytes of `command_line` in use.
    pub command_line_len: u32,
    /// Number of entries of `devices` in use.
    pub device_count: u32,
    /// Zero.
    pub reserved: u32,
    /// Random bytes, fresh for every start.
    pub seed: [u8; SEED_LEN],
    /// The arguments, UTF-8, each followed by NUL.
    pub command_line: [u8; COMMAND_LINE_LEN_MAX],
    /// The device table.
    pub devices: [Device; DEVICES_MAX],
    /// IPv6 of the devices of the table, by their indices. Since version 1.1.
    pub ipv6: [Ipv6Config; DEVICES_MAX],
}

const _: () = assert!(size_of::<StartInfo>() as u64 <= crate::layout::PAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(StartInfo, ram_base) == 24);
const _: () = assert!(core::mem::offset_of!(StartInfo, seed) == 112);
const _: () = assert!(core::mem::offset_of!(StartInfo, devices) == 1200);
const _: () = assert!(core::mem::offset_of!(StartInfo, ipv6) == 2352);

/// Why a start info page is refused by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartInfoError {
    /// Fewer bytes than [`StartInfo`].
    Length,
    /// Not a start info page.
    Magic,
    /// A host with another contract.
    Version(u32),
    /// A count, length or address is out of its range.
    Range,
}

impl StartInfo {
    /// Reads and validates a start info page.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn parse(page: &[u8]) -> Result<Self, StartInfoError> {
        let (info, _) = Self::read_from_prefix(page).map_err(|_| StartInfoError::Length)?;
        if info.magic != MAGIC {
            return Err(StartInfoError::Magic);
        }
        if !crate::is_compatible(info.abi_version, crate::ABI_VERSION) {
            return Err(StartInfoError::Version(info.abi_version));
        }
        info.check_ranges().ok_or(StartInfoError::Range)?;
        Ok(info)
    }

    fn check_ranges(&self) -> Option<()> {
        let stacks = u64::from(self.stack_size).checked_mul(u64::from(self.stack_slots))?;
        let stack_end = self.stack_base.checked_add(stacks)?;
        self.ram_base.checked_add(self.ram_size)?;
        let ok = usize::try_from(self.size).ok()? >= size_of::<Self>()
            && self.image_end <= self.stack_base
            && stack_end <= self.ram_size
            && u64::from(self.config_len) <= crate::layout::CONFIG_LEN_MAX
            && usize::try_from(self.command_line_len).ok()? <= COMMAND_LINE_LEN_MAX
            && usize::try_from(self.device_count).ok()? <= DEVICES_MAX;
        ok.then_some(())
    }

    /// The devices of the domain, in the order of their indices.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        let count = usize::try_from(self.device_count).unwrap_or(0).min(DEVICES_MAX);
        &self.devices[..count]
    }

    /// The IPv6 configuration of the device with this index; none for devices that are not there.
    #[must_use]
    pub fn ipv6(&self, device: u32) -> Ipv6Config {
        let index = usize::try_from(device).ok().filter(|_| device < self.device_count);
        index.and_then(|index| self.ipv6.get(index)).copied().unwrap_or_default()
    }

    /// The arguments. Those that are not UTF-8 read as empty.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        let len = usize::try_from(self.command_line_len).unwrap_or(0).min(COMMAND_LINE_LEN_MAX);
        self.command_line[..len]
            .split_inclusive(|&b| b == 0)
            .map(|arg| core::str::from_utf8(arg.strip_suffix(&[0]).unwrap_or(arg)).unwrap_or(""))
    }

    /// RAM offset of the first byte behind the stack slots.
    #[must_use]
    pub fn stack_end(&self) -> u64 {
        self.stack_base + u64::from(self.stack_size) * u64::from(self.stack_slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[expect(clippy::cast_possible_truncation, reason = "the page is small")]
    fn info() -> StartInfo {
        let mut info = StartInfo::new_zeroed();
        info.magic = MAGIC;
        info.abi_version = crate::ABI_VERSION;
        info.size = size_of::<StartInfo>() as u32;
        info.ram_base = crate::layout::RAM_BASE;
        info.ram_size = 8 << 20;
        info.image_end = 3 << 20;
        info.stack_base = 3 << 20;
        info.stack_size = 64 << 10;
        info.stack_slots = 2;
        info.command_line[..6].copy_from_slice(b"a\0b c\0");
        info.command_line_len = 6;
        info.device_count = 1;
        info.ipv6[..2].fill(Ipv6Config { mode: 2, ..Ipv6Config::default() });
        info
    }

    #[test]
    fn a_start_info_survives_the_round_trip() {
        let info = info();
        let read = StartInfo::parse(info.as_bytes()).unwrap();
        assert_eq!(read, info);
        assert!(read.arguments().eq(["a", "b c"]));
        assert_eq!(read.stack_end(), (3 << 20) + (128 << 10));
        assert_eq!(read.ipv6(0), read.ipv6[0]);
        assert_eq!(read.ipv6(1), Ipv6Config::default());
    }

    #[test]
    fn each_rule_refuses() {
        let check = |change: fn(&mut StartInfo), expect| {
            let mut info = info();
            change(&mut info);
            assert_eq!(StartInfo::parse(info.as_bytes()), Err(expect));
        };
        check(|i| i.magic = 0, StartInfoError::Magic);
        check(|i| i.abi_version = 0x2_0000, StartInfoError::Version(0x2_0000));
        check(|i| i.size = 8, StartInfoError::Range);
        check(|i| i.stack_base = 0, StartInfoError::Range);
        check(|i| i.stack_slots = u32::MAX, StartInfoError::Range);
        check(|i| i.ram_size = u64::MAX, StartInfoError::Range);
        check(|i| i.config_len = u32::MAX, StartInfoError::Range);
        check(|i| i.command_line_len = 1025, StartInfoError::Range);
        check(|i| i.device_count = 17, StartInfoError::Range);
        assert_eq!(StartInfo::parse(&[0; 64]), Err(StartInfoError::Length));
    }
}
