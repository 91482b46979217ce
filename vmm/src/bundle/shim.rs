//! The shim's ELF file, to be made the first part of a bundle.
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use paravane_abi::layout::PAGE_SIZE;
use std::io;
use std::path::{Path, PathBuf};

/// Name and type of the note that holds the address of the 32-bit entry point (Xen's
/// `XEN_ELFNOTE_PHYS32_ENTRY`): loaders with the PVH boot protocol start a kernel there.
const PVH_NOTE: (&[u8], u32) = (b"Xen", 18);

/// Most program headers of a shim.
const PROGRAM_HEADERS_MAX: usize = 64;

/// A shim that a payload can be put behind.
#[derive(Debug)]
pub struct Shim {
    pub(super) bytes: Vec<u8>,
    pub(super) header: FileHeader64<LE>,
    pub(super) programs: Vec<ProgramHeader64<LE>>,
    pub(super) sections: Vec<SectionHeader64<LE>>,
    /// Physical address of the first page behind the shim: `__shim_end` of its linker script.
    pub(super) end: u64,
}

/// Name of the file, beside the program.
const FILE: &str = "shim";

/// The shim that comes with this program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoShim {
    /// There is none.
    #[error("there is no shim {}: scripts/build makes it", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("the shim {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none.
    #[error("the shim {}: {source}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ShimError,
    },
}

/// Why a file is no shim.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The headers cannot be read.
    #[error("it is not an ELF file for 64-bit x86: {0}")]
    Elf(#[from] object::Error),
    /// Another kind of ELF file.
    #[error("it is not a static executable")]
    Kind,
    /// A loader would not find the entry point.
    #[error("it has no note with a PVH entry point")]
    NoEntry,
    /// A segment does not lie in the file, or not where its pages do.
    #[error("its segment {0} lies outside the file or is not aligned to pages")]
    Segment(usize),
}

impl Shim {
    /// The shim that comes with this program.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn installed() -> Result<Self, NoShim> {
        let program = std::env::current_exe().unwrap_or_default();
        let path = program.parent().unwrap_or(Path::new(".")).join(FILE);
        if !path.is_file() {
            return Err(NoShim::Missing(path));
        }
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(bytes).map_err(|source| NoShim::Bad { path, source }),
            Err(source) => Err(NoShim::Read { path, source }),
        }
    }

    /// Reads a shim from the bytes of its file.
    ///
    /// # Errors
    /// The file is no shim.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ShimError> {
        let data = bytes.as_slice();
        let header = *FileHeader64::<LE>::parse(data)?;
        let programs = header.program_headers(LE, data)?.to_vec();
        let sections = header.section_headers(LE, data)?.to_vec();
        let is_executable = header.e_type.get(LE) == elf::ET_EXEC;
        let is_x86 = header.e_machine.get(LE) == elf::EM_X86_64;
        if !is_executable || !is_x86 || programs.len() > PROGRAM_HEADERS_MAX {
            return Err(ShimError::Kind);
        }
        if !has_pvh_note(data, &programs)? {
            return Err(ShimError::NoEntry);
        }
        let is_bad = |p: &ProgramHeader64<LE>| {
            let is_aligned = (p.p_paddr.get(LE) ^ p.p_offset.get(LE)).is_multiple_of(PAGE_SIZE);
            p.data(LE, data).is_err() || is_load(p) && !is_aligned
        };
        if let Some(segment) = programs.iter().position(is_bad) {
            return Err(ShimError::Segment(segment));
        }
        let end_of = |p: &ProgramHeader64<LE>| p.p_paddr.get(LE).saturating_add(p.p_memsz.get(LE));
        let end =
            programs.iter().filter(|p| is_load(p)).map(end_of).max().ok_or(ShimError::Kind)?;
        let end = end.checked_next_multiple_of(PAGE_SIZE).ok_or(ShimError::Kind)?;
        Ok(Self { header, programs, sections, end, bytes })
    }
}

impl Shim {
    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn is_load(header: &ProgramHeader64<LE>) -> bool {
    header.p_type.get(LE) == elf::PT_LOAD
}

fn has_pvh_note(data: &[u8], programs: &[ProgramHeader64<LE>]) -> Result<bool, object::Error> {
    for header in programs {
        let Some(mut notes) = header.notes(LE, data)? else { continue };
        while let Some(note) = notes.next()? {
            if (note.name(), note.n_type(LE).0) == PVH_NOTE {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
