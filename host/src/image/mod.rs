//! Images: from an ELF file to a checked description of what to load where.
//!
//! Parsed, not validated: an [`Image`] exists only if every rule of the contract's image format holds,
//! and the rest of a host works from the [`Image`], never from the file's headers again.
mod elf;
mod error;
mod note;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use crate::access::Access;
use alloc::vec::Vec;
use core::ops::Range;
use object::LittleEndian as LE;
use object::elf::{PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS, ProgramHeader64};
use paravane_abi::layout::{IMAGE_BASE, PAGE_SIZE, RAM_BASE, RAM_SIZE_MAX};
use paravane_abi::manifest::Manifest;

pub use error::ImageError;
pub use source::{ReadError, Source};

/// Largest image file, bytes.
pub const FILE_LEN_MAX: u64 = 256 << 20;

/// An image that keeps the rules.
#[derive(Debug, Clone)]
pub struct Image {
    manifest: Manifest,
    entry: u64,
    segments: Vec<Segment>,
}

/// A piece of the image: bytes of the file, followed by zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of the first byte.
    pub address: u64,
    /// Bytes in memory.
    pub memory_len: u64,
    /// Where the bytes start in the file.
    pub file_offset: u64,
    /// Bytes taken from the file, at most `memory_len`.
    pub file_len: u64,
    /// What the guest may do with the pages.
    pub access: Access,
}

impl Segment {
    /// The virtual addresses of the pages that the segment lies in.
    #[must_use]
    pub fn pages(&self) -> Range<u64> {
        let end = (self.address + self.memory_len).next_multiple_of(PAGE_SIZE);
        self.address - self.address % PAGE_SIZE..end
    }

    fn parse(index: usize, header: &ProgramHeader64<LE>) -> Result<Self, ImageError> {
        let segment = Self {
            address: header.p_vaddr.get(LE),
            memory_len: header.p_memsz.get(LE),
            file_offset: header.p_offset.get(LE),
            file_len: header.p_filesz.get(LE),
            access: Access::from_elf(header.p_flags.get(LE))
                .ok_or(ImageError::WritableAndExecutable { segment: index })?,
        };
        let end = segment.address.checked_add(segment.memory_len);
        let in_range =
            segment.address >= IMAGE_BASE && end.is_some_and(|end| end <= RAM_BASE + RAM_SIZE_MAX);
        if !in_range {
            return Err(ImageError::OutOfRange { segment: index });
        }
        if segment.file_len > segment.memory_len {
            return Err(ImageError::LongerInFile { segment: index });
        }
        if segment.address % PAGE_SIZE != segment.file_offset % PAGE_SIZE {
            return Err(ImageError::Unaligned { segment: index });
        }
        Ok(segment)
    }
}

impl Image {
    /// Reads the headers of an ELF file and checks them against the rules of the image format.
    ///
    /// # Errors
    /// The first rule that the file breaks, or that it cannot be read.
    pub fn read(source: &(impl Source + ?Sized)) -> Result<Self, ImageError> {
        let file_len = source.len().map_err(ImageError::Read)?;
        if file_len > FILE_LEN_MAX {
            return Err(ImageError::FileTooLong);
        }
        let header = elf::Header::read(source, file_len)?;
        elf::refuse_relocations(source, file_len, &header)?;
        let headers = elf::program_headers(source, file_len, &header)?;
        let segments = load_segments(&headers, file_len)?;
        check_tls(&headers, &segments)?;
        let manifest = note::manifest(source, file_len, &headers)?;
        check_entry(header.entry, &segments)?;
        Ok(Self { manifest, entry: header.entry, segments })
    }

    /// What the image says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Virtual address at which the guest starts; lies in an executable segment.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The segments, by address; no two share a page.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// RAM offset of the first page behind the image.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(IMAGE_BASE, |last| last.pages().end) - RAM_BASE
    }
}

fn load_segments(
    headers: &[ProgramHeader64<LE>],
    file_len: u64,
) -> Result<Vec<Segment>, ImageError> {
    let mut segments = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        match header.p_type.get(LE) {
            PT_INTERP | PT_DYNAMIC => return Err(ImageError::Dynamic),
            PT_LOAD if header.p_memsz.get(LE) > 0 => segments.push(Segment::parse(index, header)?),
            _ => {}
        }
    }
    if segments.is_empty() {
        return Err(ImageError::NoSegments);
    }
    segments.sort_by_key(|s| s.address);
    let in_file =
        |s: &Segment| s.file_offset.checked_add(s.file_len).is_some_and(|end| end <= file_len);
    if !segments.iter().all(in_file) {
        return Err(ImageError::Truncated);
    }
    let overlap = segments.windows(2).find(|w| w[0].pages().end > w[1].pages().start);
    match overlap {
        Some(pair) => Err(ImageError::Overlap { address: pair[1].address }),
        None => Ok(segments),
    }
}

/// The initial thread-local data must lie within a segment, since the guest copies it from there.
fn check_tls(headers: &[ProgramHeader64<LE>], segments: &[Segment]) -> Result<(), ImageError> {
    let mut templates = headers.iter().filter(|h| h.p_type.get(LE) == PT_TLS);
    let Some(tls) = templates.next() else { return Ok(()) };
    let (start, file_len) = (tls.p_vaddr.get(LE), tls.p_filesz.get(LE));
    let (memory_len, align) = (tls.p_memsz.get(LE), tls.p_align.get(LE));
    let lies_in = |s: &Segment| {
        let end = start.checked_add(file_len);
        start >= s.address && end.is_some_and(|end| end <= s.address + s.memory_len)
    };
    let sane = templates.next().is_none()
        && file_len <= memory_len
        && memory_len <= RAM_SIZE_MAX
        && align <= PAGE_SIZE
        && (align == 0 || align.is_power_of_two())
        && (file_len == 0 || segments.iter().any(lies_in));
    if sane { Ok(()) } else { Err(ImageError::ThreadLocal) }
}

fn check_entry(entry: u64, segments: &[Segment]) -> Result<(), ImageError> {
    let inside = |s: &&Segment| entry >= s.address && entry - s.address < s.memory_len;
    match segments.iter().find(inside) {
        Some(segment) if segment.access == Access::ReadExecute => Ok(()),
        _ => Err(ImageError::Entry { address: entry }),
    }
}

fn notes(headers: &[ProgramHeader64<LE>]) -> impl Iterator<Item = &ProgramHeader64<LE>> {
    headers.iter().filter(|h| h.p_type.get(LE) == PT_NOTE)
}
