//! Bundles that are made, and then are not what they were.
use super::flags::Flags;
use super::machine::{Machine, Model};
use super::make;
use anyhow::{Context, Result, ensure};
use paravane_host::bundle::Bundle;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// Memory of the machine that a bundle is tried in.
const MEMORY_MIB: u64 = 80;

/// Offset of a program header's parts, and its length (ELF64).
const PROGRAM_HEADERS_AT: usize = 32;
const PROGRAM_HEADER_COUNT_AT: usize = 56;
const PROGRAM_HEADER_LEN: usize = 56;

/// Where code is added: between low memory and the shim.
pub(super) const ADDED_AT: u32 = 1 << 20;

/// The start of the note with the 32-bit entry point, which is behind it.
const PVH_NOTE: &[u8] = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0";

/// The start of an image's manifest, whose first field, the ABI version, is behind it.
const MANIFEST_NOTE: &[u8] = b"\x09\0\0\0\x78\0\0\0\x01\0\0\0Paravane\0\0\0\0";

/// A bundle in a folder of its own.
pub(super) struct Attempt {
    pub(super) folder: TempDir,
    bytes: Vec<u8>,
}

impl Attempt {
    /// A bundle of what `paravane run ARGUMENTS` would run.
    pub(super) fn new(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bundle");
        make(&Flags::parse(arguments)?, &path)?;
        Ok(Self { bytes: fs::read(path)?, folder })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    /// A machine with it.
    pub(super) fn machine(&self, model: Model) -> Result<Machine> {
        self.machine_with(model, MEMORY_MIB)
    }

    /// A machine of a certain size with it.
    pub(super) fn machine_with(&self, model: Model, memory_mib: u64) -> Result<Machine> {
        fs::write(self.path(), &self.bytes)?;
        Ok(Machine::new(model, memory_mib, &self.path()))
    }

    /// Without its last bytes.
    pub(super) fn cut(mut self, count: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - count);
        self
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// With one bit of the image wrong.
    pub(super) fn flip(mut self) -> Result<Self> {
        let image = self.payload()? + self.bundle()?.image.len() / 2;
        self.bytes[image] ^= 4;
        Ok(self)
    }

    /// With another ABI version in the image's manifest, and the checksum that goes with it.
    pub(super) fn with_abi_version(mut self, version: u32) -> Result<Self> {
        let start = self.payload()?;
        let bundle = self.bundle()?;
        let mut image = bundle.image.to_vec();
        *behind(&mut image, MANIFEST_NOTE)? = version.to_le_bytes();
        let payload = Bundle { image: &image, ..bundle }.encode()?;
        self.bytes[start..][..payload.len()].copy_from_slice(&payload);
        Ok(self)
    }

    /// With 32-bit code that runs first, at [`ADDED_AT`], and jumps to the entry point when it is through.
    pub(super) fn with_code(mut self, code: &[u8]) -> Result<Self> {
        let entry = behind(&mut self.bytes, PVH_NOTE)?;
        let [a, b, c, d] = std::mem::replace(entry, ADDED_AT.to_le_bytes());
        // mov eax, ENTRY; jmp eax
        let code = [code, &[0xb8, a, b, c, d, 0xff, 0xe0]].concat();
        self.add_segment(&code);
        Ok(self)
    }

    /// Adds a segment for `code`. The program headers move to the end of the file, where there is room.
    fn add_segment(&mut self, code: &[u8]) {
        let number =
            |bytes: &[u8]| bytes.iter().rfold(0, |all, &byte| all << 8 | usize::from(byte));
        let start = number(&self.bytes[PROGRAM_HEADERS_AT..][..8]);
        let count = number(&self.bytes[PROGRAM_HEADER_COUNT_AT..][..2]);
        let mut headers = self.bytes[start..][..count * PROGRAM_HEADER_LEN].to_vec();
        // PT_LOAD, readable and executable.
        headers.extend([1, 0, 0, 0, 5, 0, 0, 0]);
        let (address, len) = (u64::from(ADDED_AT), code.len() as u64);
        for field in [self.bytes.len() as u64, address, address, len, len, 1] {
            headers.extend(field.to_le_bytes());
        }
        self.bytes.extend(code);
        let end = self.bytes.len() as u64;
        self.bytes[PROGRAM_HEADERS_AT..][..8].copy_from_slice(&end.to_le_bytes());
        self.bytes[PROGRAM_HEADER_COUNT_AT] += 1;
        self.bytes.extend(headers);
    }

    fn bundle(&self) -> Result<Bundle<'_>> {
        Ok(Bundle::parse(&self.bytes[self.payload()?..])?)
    }

    /// Where the payload starts in the file: on a page.
    fn payload(&self) -> Result<usize> {
        let starts = |page: &[u8]| page.starts_with(b"PVBUNDLE");
        let page = self.bytes.chunks(4096).position(starts).context("no payload")?;
        Ok(page * 4096)
    }
}

/// The four bytes behind the only place where `pattern` is.
fn behind<'a>(bytes: &'a mut [u8], pattern: &[u8]) -> Result<&'a mut [u8; 4]> {
    let is_there = |part: &[u8]| part == pattern;
    let start = bytes.windows(pattern.len()).position(is_there).context("no such note")?;
    let rest = &mut bytes[start + pattern.len()..];
    ensure!(!rest.windows(pattern.len()).any(is_there), "the note is there twice");
    rest.first_chunk_mut().context("nothing behind the note")
}
