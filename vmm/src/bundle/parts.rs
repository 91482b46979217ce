//! A bundle, read again.
use super::head::SECTOR_LEN;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::elf::FileHeader;
use paravane_host::bundle::{Bundle, BundleError};
use paravane_host::image::FILE_LEN_MAX;
use paravane_host::width::to_usize;
use std::io::{self, Read};
use tar::{EntryType, Header};

/// Most bytes before the site: the image, and room for the shim and a configuration.
const HEAD_LEN_MAX: u64 = FILE_LEN_MAX + (16 << 20);

/// The bytes of a bundle up to its site.
#[derive(Debug)]
pub struct Parts(Vec<u8>);

/// Why there is nothing to look at in a bundle.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// The ELF headers cannot be read.
    #[error("the bundle's ELF headers are malformed: {0}")]
    Elf(#[from] object::Error),
    /// The payload breaks a rule.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Parts {
    /// Reads a bundle up to its site; none if `file` is something else.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(mut file: impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        file.by_ref().take(SECTOR_LEN).read_to_end(&mut bytes)?;
        let Some(len) = comment_len(&bytes) else { return Ok(None) };
        file.take(len).read_to_end(&mut bytes)?;
        Ok(Some(Self(bytes)))
    }

    /// An ELF file with the shim's segments and sections.
    #[must_use]
    pub fn shim(&self) -> &[u8] {
        &self.0
    }

    /// What the shim is to run.
    ///
    /// # Errors
    /// The bundle is damaged.
    pub fn bundle(&self) -> Result<Bundle<'_>, PartsError> {
        let data = self.0.as_slice();
        let header = FileHeader64::<LE>::parse(data)?;
        let programs = header.program_headers(LE, data)?;
        let payload = programs.iter().rfind(|header| header.p_type.get(LE) == elf::PT_LOAD);
        let payload = payload.and_then(|header| {
            let start = to_usize(header.p_offset.get(LE));
            data.get(start..)
        });
        Ok(Bundle::parse(payload.unwrap_or_default())?)
    }
}

/// Length of the comment that the archive header `block` announces, if it is also an ELF file's.
fn comment_len(block: &[u8]) -> Option<u64> {
    if block.len() < to_usize(SECTOR_LEN) || !block.starts_with(&elf::ELFMAG) {
        return None;
    }
    let header = Header::from_byte_slice(block);
    let is_comment = header.as_ustar().is_some() && header.entry_type() == EntryType::XGlobalHeader;
    header.entry_size().ok().filter(|&len| is_comment && len <= HEAD_LEN_MAX)
}
