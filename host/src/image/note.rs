//! Finds the manifest among the ELF notes.
use super::{ImageError, Source, elf, notes};
use object::LittleEndian as LE;
use object::elf::ProgramHeader64;
use paravane_abi::manifest::{Manifest, ManifestError, NOTE_NAME, NOTE_TYPE};

/// Longest note segment that is looked at, bytes.
const NOTES_LEN_MAX: u64 = 64 << 10;

/// Reads the one manifest of the image.
pub(super) fn manifest(
    source: &(impl Source + ?Sized),
    file_len: u64,
    headers: &[ProgramHeader64<LE>],
) -> Result<Manifest, ImageError> {
    let mut found = None;
    // Linkers may name one note segment twice (PT_NOTE within PT_NOTE does not happen).
    for header in notes(headers) {
        let len = header.p_filesz.get(LE);
        let len = usize::try_from(len.min(NOTES_LEN_MAX)).map_err(|_| ImageError::Truncated)?;
        let bytes = elf::read_bytes(source, file_len, header.p_offset.get(LE), len)?;
        for descriptor in Notes(&bytes).filter_map(Note::manifest_descriptor) {
            if found.is_some() {
                return Err(ImageError::TwoManifests);
            }
            found = Some(Manifest::parse(descriptor).map_err(refusal)?);
        }
    }
    found.ok_or(ImageError::NoManifest)
}

fn refusal(error: ManifestError) -> ImageError {
    match error {
        ManifestError::Version(version) => ImageError::Version(version),
        ManifestError::Length => ImageError::Manifest("it has the wrong length"),
        ManifestError::Stack => ImageError::Manifest("its stack slots are out of range"),
        ManifestError::Device => ImageError::Manifest("its device list is not valid"),
        ManifestError::Name => ImageError::Manifest("its name is not valid"),
    }
}

/// One note.
struct Note<'a> {
    kind: u32,
    name: &'a [u8],
    descriptor: &'a [u8],
}

impl<'a> Note<'a> {
    fn manifest_descriptor(self) -> Option<&'a [u8]> {
        (self.name == NOTE_NAME && self.kind == NOTE_TYPE).then_some(self.descriptor)
    }
}

/// The notes in the bytes of a note segment, up to the first malformed one.
struct Notes<'a>(&'a [u8]);

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let name_len = take_u32(&mut self.0)?;
        let descriptor_len = take_u32(&mut self.0)?;
        let kind = take_u32(&mut self.0)?;
        let name = take_padded(&mut self.0, name_len)?;
        let descriptor = take_padded(&mut self.0, descriptor_len)?;
        Some(Note { kind, name, descriptor })
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

/// Takes `len` bytes and the padding to a multiple of four, which the end may cut off.
fn take_padded<'a>(bytes: &mut &'a [u8], len: u32) -> Option<&'a [u8]> {
    let len = usize::try_from(len).ok()?;
    let field = bytes.get(..len)?;
    let padded = len.checked_next_multiple_of(4)?.min(bytes.len());
    *bytes = bytes.get(padded..)?;
    Some(field)
}
