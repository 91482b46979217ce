//! ELF headers, read with every bound checked.
use super::{ImageError, Source};
use alloc::vec;
use alloc::vec::Vec;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod::{self, Pod};

/// Most program headers of an image.
const PROGRAM_HEADERS_MAX: u16 = 64;

/// Most section headers that are looked at; an image with more is refused.
const SECTION_HEADERS_MAX: u16 = 4096;

/// What is needed of the ELF file header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) entry: u64,
    program_headers: Table,
    section_headers: Table,
}

/// A table in the file.
#[derive(Debug)]
struct Table {
    offset: u64,
    count: u16,
}

impl Header {
    pub(super) fn read(source: &(impl Source + ?Sized), file_len: u64) -> Result<Self, ImageError> {
        let bytes = read_bytes(source, file_len, 0, size_of::<FileHeader64<LE>>())
            .map_err(|e| if matches!(e, ImageError::Truncated) { ImageError::NotElf } else { e })?;
        let header: &FileHeader64<LE> = first(&bytes)?;
        let ident = &header.e_ident;
        if ident.magic != elf::ELFMAG {
            return Err(ImageError::NotElf);
        }
        let machine = header.e_machine.get(LE);
        if ident.class != elf::ELFCLASS64
            || ident.data != elf::ELFDATA2LSB
            || machine != elf::EM_X86_64
        {
            return Err(ImageError::WrongMachine);
        }
        let kind = header.e_type.get(LE);
        if kind != elf::ET_EXEC {
            return Err(ImageError::NotExecutable(kind.0));
        }
        let program_headers = Table::new::<ProgramHeader64<LE>>(
            header.e_phoff.get(LE),
            header.e_phnum.get(LE),
            header.e_phentsize.get(LE),
            PROGRAM_HEADERS_MAX,
        )?;
        let section_headers = Table::new::<SectionHeader64<LE>>(
            header.e_shoff.get(LE),
            header.e_shnum.get(LE),
            header.e_shentsize.get(LE),
            SECTION_HEADERS_MAX,
        )?;
        Ok(Self { entry: header.e_entry.get(LE), program_headers, section_headers })
    }
}

impl Table {
    fn new<T>(offset: u64, count: u16, entry_len: u16, count_max: u16) -> Result<Self, ImageError> {
        let sane = count == 0 || usize::from(entry_len) == size_of::<T>();
        if sane && count <= count_max {
            Ok(Self { offset, count })
        } else {
            Err(ImageError::Truncated)
        }
    }

    fn read<T: Pod + Copy>(
        &self,
        source: &(impl Source + ?Sized),
        file_len: u64,
    ) -> Result<Vec<T>, ImageError> {
        let len = usize::from(self.count) * size_of::<T>();
        let bytes = read_bytes(source, file_len, self.offset, len)?;
        let (entries, _) = pod::slice_from_bytes(&bytes, usize::from(self.count))
            .map_err(|()| ImageError::Truncated)?;
        Ok(entries.to_vec())
    }
}

/// Reads the program headers.
pub(super) fn program_headers(
    source: &(impl Source + ?Sized),
    file_len: u64,
    header: &Header,
) -> Result<Vec<ProgramHeader64<LE>>, ImageError> {
    header.program_headers.read(source, file_len)
}

/// Refuses relocation sections that have entries, IRELATIVE ones of IFUNCs included.
pub(super) fn refuse_relocations(
    source: &(impl Source + ?Sized),
    file_len: u64,
    header: &Header,
) -> Result<(), ImageError> {
    let sections: Vec<SectionHeader64<LE>> = header.section_headers.read(source, file_len)?;
    let relocates = |s: &SectionHeader64<LE>| {
        let kind = s.sh_type.get(LE);
        let relocations = [elf::SHT_REL, elf::SHT_RELA, elf::SHT_RELR].contains(&kind);
        relocations && s.sh_size.get(LE) > 0
    };
    match sections.iter().position(relocates) {
        Some(section) => Err(ImageError::Relocations { section }),
        None => Ok(()),
    }
}

/// Reads `len` bytes at `offset`, which must lie in the file.
pub(super) fn read_bytes(
    source: &(impl Source + ?Sized),
    file_len: u64,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, ImageError> {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    if end.is_none_or(|end| end > file_len) {
        return Err(ImageError::Truncated);
    }
    let mut bytes = vec![0; len];
    source.read_at(offset, &mut bytes).map_err(ImageError::Read)?;
    Ok(bytes)
}

fn first<T: Pod>(bytes: &[u8]) -> Result<&T, ImageError> {
    pod::from_bytes(bytes).map(|(value, _)| value).map_err(|()| ImageError::NotElf)
}
