//! The payload of a bundle: an image and what it is to be started with, as `paravane bundle` puts them
//! behind the shim. `docs/bundle.md` is the format's description.
//!
//! Parsed, not validated: a [`Bundle`] exists only if every rule of the format holds.
mod header;
#[cfg(test)]
mod tests;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use crc32fast::Hasher;
use header::{Header, MAGIC, Part, VERSION};
use paravane_abi::device::{Ipv6Config, Ipv6Mode};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub use header::Ipv4;

/// Most block devices that a bundle can name.
pub const DISKS_MAX: usize = 8;

/// What the operator calls a block device, as in the device table: UTF-8, padded with NUL.
pub type Tag = [u8; 16];

/// What the shim is to run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The image: a whole ELF file, not yet looked at.
    pub image: &'a [u8],
    /// The guest's configuration.
    pub config: &'a [u8],
    /// The guest's arguments.
    pub arguments: Vec<String>,
    /// Names for the machine's block devices, in their order; at most [`DISKS_MAX`].
    pub disks: Vec<Tag>,
    /// Whether the first of these is the bundle's own file, with the site in it.
    pub is_own_disk: bool,
    /// Bytes of that file: a disk with less was cut short.
    pub file_len: u64,
    /// The guest's IPv4 addresses.
    pub ipv4: Ipv4,
    /// The guest's IPv6 addresses, or where they come from.
    pub ipv6: Ipv6Config,
    /// Seconds without a sign of life after which the guest counts as hung; 0 for never.
    pub watchdog_seconds: u32,
}

/// Why there is no bundle to run, as a sentence for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes do not start with the magic.
    #[error("there is no bundle behind the shim")]
    Missing,
    /// Another version of the format.
    #[error("the bundle has version {0} of its format; this shim reads version {VERSION}")]
    Version(u32),
    /// Fewer bytes than the header promises.
    #[error("the bundle is truncated: {have} of {need} bytes")]
    Truncated {
        /// Bytes that are there.
        have: u64,
        /// Bytes that there should be.
        need: u64,
    },
    /// Some byte is not what it was.
    #[error("the bundle is damaged: its checksum is wrong")]
    Damaged,
    /// A field breaks a rule.
    #[error("the bundle is malformed: {0}")]
    Malformed(&'static str),
}

impl<'a> Bundle<'a> {
    /// Reads the payload that `bytes` start with.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let (header, payload) = checked(bytes)?;
        let is_own_disk = flag(header.is_own_disk).ok_or(MALFORMED_FLAG)?;
        if header.reserved != 0 || header.ipv4.reserved != [0; 3] || header.ipv6.reserved != [0; 6]
        {
            return Err(BundleError::Malformed("a reserved field is not zero"));
        }
        let disks = disks(&header).ok_or(MALFORMED_DISKS)?;
        if is_own_disk && disks.is_empty() {
            return Err(MALFORMED_DISKS);
        }
        if header.file_len < header.len {
            return Err(BundleError::Malformed("it is longer than the file it lies in"));
        }
        Ok(Self {
            image: header.image.of(payload)?,
            config: header.config.of(payload)?,
            arguments: arguments(header.arguments.of(payload)?).ok_or(MALFORMED_ARGUMENTS)?,
            disks,
            is_own_disk,
            file_len: header.file_len,
            ipv4: checked_ipv4(header.ipv4)?,
            ipv6: checked_ipv6(header.ipv6)?,
            watchdog_seconds: header.watchdog_seconds,
        })
    }

    /// The payload, which [`parse`](Self::parse) reads as an equal bundle.
    ///
    /// # Errors
    /// The bundle cannot be written down: a name or an argument, or their number, breaks a rule.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        let mut bytes = Header::new_zeroed().as_bytes().to_owned();
        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            checksum: 0,
            len: 0,
            file_len: self.file_len,
            image: Part::append(&mut bytes, self.image),
            config: Part::append(&mut bytes, self.config),
            arguments: Part::append(&mut bytes, &self.command_line()),
            disk_count: u32::try_from(self.disks.len()).map_err(|_| MALFORMED_DISKS)?,
            is_own_disk: u32::from(self.is_own_disk),
            watchdog_seconds: self.watchdog_seconds,
            reserved: 0,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            disks: [Tag::default(); DISKS_MAX],
        };
        let disks = header.disks.get_mut(..self.disks.len()).ok_or(MALFORMED_DISKS)?;
        disks.copy_from_slice(&self.disks);
        header.len = len_of(&bytes);
        let (start, rest) = bytes.split_at_mut(size_of::<Header>());
        header.checksum = checksum(header, rest);
        start.copy_from_slice(header.as_bytes());
        if Bundle::parse(&bytes)? == *self { Ok(bytes) } else { Err(MALFORMED_ARGUMENTS) }
    }

    fn command_line(&self) -> Vec<u8> {
        self.arguments.iter().flat_map(|a| a.bytes().chain([0])).collect()
    }
}

const MALFORMED_FLAG: BundleError = BundleError::Malformed("a flag is neither 0 nor 1");
const MALFORMED_DISKS: BundleError = BundleError::Malformed("the names of its disks");
const MALFORMED_ARGUMENTS: BundleError = BundleError::Malformed("the arguments for the guest");

/// The header, and the payload if it is whole and what it was when it was written.
fn checked(bytes: &[u8]) -> Result<(Header, &[u8]), BundleError> {
    if !bytes.starts_with(MAGIC.as_bytes()) {
        return Err(BundleError::Missing);
    }
    let truncated = |need| BundleError::Truncated { have: len_of(bytes), need };
    let header_len = size_of::<Header>();
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| truncated(header_len as u64))?;
    if header.version != VERSION {
        return Err(BundleError::Version(header.version));
    }
    let payload = usize::try_from(header.len)
        .ok()
        .and_then(|len| bytes.get(..len))
        .ok_or_else(|| truncated(header.len))?;
    let rest = payload.get(header_len..).ok_or(BundleError::Damaged)?;
    if checksum(header, rest) != header.checksum {
        return Err(BundleError::Damaged);
    }
    Ok((header, payload))
}

fn checksum(mut header: Header, rest: &[u8]) -> u32 {
    header.checksum = 0;
    let mut hasher = Hasher::new();
    hasher.update(header.as_bytes());
    hasher.update(rest);
    hasher.finalize()
}

fn flag(value: u32) -> Option<bool> {
    [false, true].into_iter().find(|&flag| u32::from(flag) == value)
}

fn disks(header: &Header) -> Option<Vec<Tag>> {
    let count = usize::try_from(header.disk_count).ok()?;
    let (used, unused) = header.disks.split_at_checked(count)?;
    let clean = unused.iter().all(|tag| *tag == Tag::default()) && used.iter().all(is_name);
    clean.then(|| used.to_owned())
}

fn is_name(tag: &Tag) -> bool {
    let len = tag.iter().position(|&b| b == 0).unwrap_or(tag.len());
    let (name, padding) = tag.split_at(len);
    let printable = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
    core::str::from_utf8(name).is_ok_and(printable) && padding.iter().all(|&b| b == 0)
}

fn arguments(line: &[u8]) -> Option<Vec<String>> {
    let argument = |part: &[u8]| {
        let text = core::str::from_utf8(part.strip_suffix(&[0])?).ok()?;
        Some(text.to_owned())
    };
    line.split_inclusive(|&b| b == 0).map(argument).collect()
}

fn checked_ipv4(ipv4: Ipv4) -> Result<Ipv4, BundleError> {
    let is_dhcp = ipv4.address == [0; 4];
    if ipv4.prefix_len > 32 || is_dhcp && ipv4 != Ipv4::default() {
        return Err(BundleError::Malformed("the addresses of the guest"));
    }
    Ok(ipv4)
}

fn checked_ipv6(ipv6: Ipv6Config) -> Result<Ipv6Config, BundleError> {
    let mode = ipv6.mode();
    let plain = Ipv6Config { mode: mode as u8, ..Ipv6Config::default() };
    let is_right = match mode {
        Ipv6Mode::Off | Ipv6Mode::Automatic => ipv6 == plain,
        Ipv6Mode::Static => ipv6.prefix_len <= 128 && ipv6.address != [0; 16],
    };
    is_right.then_some(ipv6).ok_or(BundleError::Malformed("the IPv6 addresses of the guest"))
}

impl Part {
    fn append(bytes: &mut Vec<u8>, part: &[u8]) -> Self {
        let offset = len_of(bytes);
        bytes.extend_from_slice(part);
        Self { offset, len: len_of(part) }
    }

    fn of(self, payload: &[u8]) -> Result<&[u8], BundleError> {
        let part = || {
            let start = usize::try_from(self.offset).ok()?;
            let len = usize::try_from(self.len).ok()?;
            payload.get(start..)?.get(..len)
        };
        part().ok_or(BundleError::Malformed("a part lies outside"))
    }
}

fn len_of(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
