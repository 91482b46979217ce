//! The part of a bundle before the site: to an ELF loader all there is, to a tar reader a comment.
//!
//! A tar archive starts with a member's name, and an ELF file with its file header: the name is the
//! file header. The member is a global pax header, which readers look at and skip, with one record
//! `LENGTH comment=...` that holds everything else.
use super::Shim;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::endian::{U16, U32, U64};
use object::pod;
use paravane_abi::layout::PAGE_SIZE;
use paravane_host::width::to_usize;
use std::io::{self, Write};
use tar::{EntryType, Header};

pub(super) const SECTOR_LEN: u64 = 512;

/// What ends a tar archive.
pub(super) const ARCHIVE_END: [u8; 1024] = [0; 1024];

/// Where the program headers are: behind the archive's first header and the start of the comment.
const TABLES_OFFSET: u64 = SECTOR_LEN + 64;

/// Where everything before the site lies.
#[derive(Debug)]
pub(super) struct Head<'a> {
    shim: &'a Shim,
    shim_offset: u64,
    payload_offset: u64,
    payload_len: u64,
}

impl<'a> Head<'a> {
    pub(super) fn new(shim: &'a Shim, payload_len: u64) -> Self {
        let tables_len = size_of::<ProgramHeader64<LE>>() * (shim.programs.len() + 1)
            + size_of_val(shim.sections.as_slice());
        let shim_offset = (TABLES_OFFSET + tables_len as u64).next_multiple_of(PAGE_SIZE);
        let shim_end = shim_offset + shim.bytes.len() as u64;
        let payload_offset = shim_end.next_multiple_of(PAGE_SIZE);
        Self { shim, shim_offset, payload_offset, payload_len }
    }

    /// Bytes in the file: where the site starts.
    pub(super) fn len(&self) -> u64 {
        self.comment_end().next_multiple_of(SECTOR_LEN)
    }

    /// Writes everything before the site.
    pub(super) fn write(&self, payload: &[u8], mut output: impl Write) -> io::Result<()> {
        let mut bytes = self.archive_header().as_bytes().to_vec();
        write!(bytes, "{} comment=", self.comment_len())?;
        pad(&mut bytes, TABLES_OFFSET);
        for header in self.program_headers() {
            bytes.extend_from_slice(pod::bytes_of(&header));
        }
        for header in self.section_headers() {
            bytes.extend_from_slice(pod::bytes_of(&header));
        }
        pad(&mut bytes, self.shim_offset);
        bytes.extend_from_slice(&self.shim.bytes);
        pad(&mut bytes, self.payload_offset);
        output.write_all(&bytes)?;
        output.write_all(payload)?;
        let mut end = b"\n".to_vec();
        pad(&mut end, self.len() - self.comment_end() + 1);
        output.write_all(&end)
    }

    fn comment_end(&self) -> u64 {
        self.payload_offset + self.payload_len + 1
    }

    /// Length of the comment's record, which counts its own digits.
    fn comment_len(&self) -> u64 {
        self.comment_end() - SECTOR_LEN
    }

    fn archive_header(&self) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.comment_len());
        let file_header = self.file_header();
        let file_header = pod::bytes_of(&file_header);
        header.as_mut_bytes()[..file_header.len()].copy_from_slice(file_header);
        header.set_cksum();
        header
    }

    fn file_header(&self) -> FileHeader64<LE> {
        let mut header = self.shim.header;
        let program_count = header.e_phnum.get(LE) + 1;
        let programs_len = u64::from(program_count) * size_of::<ProgramHeader64<LE>>() as u64;
        header.e_phoff = U64::new(LE, TABLES_OFFSET);
        header.e_phnum = U16::new(LE, program_count);
        header.e_shoff = U64::new(LE, TABLES_OFFSET + programs_len);
        header
    }

    /// Those of the shim, moved to where it lies in this file, and the payload's behind.
    fn program_headers(&self) -> Vec<ProgramHeader64<LE>> {
        let moved = |header: &ProgramHeader64<LE>| ProgramHeader64 {
            p_offset: U64::new(LE, header.p_offset.get(LE) + self.shim_offset),
            ..*header
        };
        let payload = ProgramHeader64 {
            p_type: U32::new(LE, elf::PT_LOAD),
            p_flags: U32::new(LE, elf::PF_R),
            p_offset: U64::new(LE, self.payload_offset),
            p_vaddr: U64::new(LE, self.shim.end),
            p_paddr: U64::new(LE, self.shim.end),
            p_filesz: U64::new(LE, self.payload_len),
            p_memsz: U64::new(LE, self.payload_len),
            p_align: U64::new(LE, PAGE_SIZE),
        };
        self.shim.programs.iter().map(moved).chain([payload]).collect()
    }

    /// Those of the shim, moved: for debuggers, disassemblers and `paravane check`.
    fn section_headers(&self) -> impl Iterator<Item = SectionHeader64<LE>> {
        self.shim.sections.iter().map(|header| SectionHeader64 {
            sh_offset: U64::new(LE, header.sh_offset.get(LE).wrapping_add(self.shim_offset)),
            ..*header
        })
    }
}

fn pad(bytes: &mut Vec<u8>, len: u64) {
    bytes.resize(to_usize(len), 0);
}
