//! Builds images byte by byte.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "compiled into several test crates, each using its part"
)]
use paravane_abi::layout::IMAGE_BASE;
use paravane_abi::manifest::{Manifest, ManifestNote};
use zerocopy::IntoBytes;

pub const PT_LOAD: u32 = 1;
pub const PT_NOTE: u32 = 4;
const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;

/// A program header.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub file_len: u64,
    pub memory_len: u64,
    pub align: u64,
}

impl Segment {
    pub fn load(flags: u32, offset: u64, file_len: u64, memory_len: u64) -> Self {
        let address = IMAGE_BASE + offset;
        Self { kind: PT_LOAD, flags, offset, address, file_len, memory_len, align: 0x1000 }
    }
}

/// An image: a page of headers and notes, one of code, one of zeroes.
#[derive(Debug, Clone)]
pub struct ElfBuilder {
    pub class: u8,
    pub kind: u16,
    pub machine: u16,
    pub entry: u64,
    pub manifests: Vec<Manifest>,
    pub segments: Vec<Segment>,
    /// Section headers as (type, size).
    pub sections: Vec<(u32, u64)>,
    pub code: Vec<u8>,
}

impl Default for ElfBuilder {
    fn default() -> Self {
        let (read, write, execute) = (4, 2, 1);
        Self {
            class: 2,
            kind: 2,
            machine: 62,
            entry: IMAGE_BASE + 0x1000,
            manifests: vec![Manifest::new("test", 4 << 20, &[]).with_stacks(2, 64 << 10)],
            segments: vec![
                Segment::load(read, 0, 0x1000, 0x1000),
                Segment::load(read | execute, 0x1000, 0x1000, 0x1000),
                Segment::load(read | write, 0x2000, 0, 0x1000),
            ],
            sections: Vec::new(),
            code: vec![0xf4],
        }
    }
}

impl ElfBuilder {
    /// An image with this code.
    pub fn with_code(code: &[u8]) -> Self {
        Self { code: code.to_vec(), ..Self::default() }
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let notes: Vec<u8> = self.manifests.iter().flat_map(note).collect();
        let header_count = self.segments.len() + 1;
        let notes_offset = HEADER_LEN + header_count * PROGRAM_HEADER_LEN;
        let mut file = self.header(header_count);
        for segment in &self.segments {
            file.extend(program_header(segment));
        }
        file.extend(program_header(&Segment {
            kind: PT_NOTE,
            flags: 4,
            offset: notes_offset as u64,
            address: IMAGE_BASE + notes_offset as u64,
            file_len: notes.len() as u64,
            memory_len: notes.len() as u64,
            align: 4,
        }));
        file.extend(notes);
        assert!(file.len() <= 0x1000 && self.code.len() <= 0x1000);
        file.resize(0x1000, 0);
        file.extend(&self.code);
        file.resize(0x2000, 0xcc);
        for (kind, len) in &self.sections {
            file.extend(section_header(*kind, *len));
        }
        file
    }

    fn header(&self, header_count: usize) -> Vec<u8> {
        let mut header = vec![0x7f, b'E', b'L', b'F', self.class, 1, 1];
        header.resize(16, 0);
        header.extend(self.kind.to_le_bytes());
        header.extend(self.machine.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(self.entry.to_le_bytes());
        header.extend((HEADER_LEN as u64).to_le_bytes());
        let sections_offset = if self.sections.is_empty() { 0_u64 } else { 0x2000 };
        header.extend(sections_offset.to_le_bytes());
        header.extend(0_u32.to_le_bytes());
        let counts =
            [HEADER_LEN, PROGRAM_HEADER_LEN, header_count, HEADER_LEN, self.sections.len(), 0];
        for count in counts {
            header.extend(u16::try_from(count).unwrap().to_le_bytes());
        }
        header
    }
}

fn note(manifest: &Manifest) -> Vec<u8> {
    // The note header is private to the contract; its size and the descriptor are not.
    let header_len = size_of::<ManifestNote>() - size_of::<Manifest>();
    let mut note = Vec::new();
    note.extend(9_u32.to_le_bytes());
    note.extend(u32::try_from(size_of::<Manifest>()).unwrap().to_le_bytes());
    note.extend(1_u32.to_le_bytes());
    note.extend(b"Paravane\0\0\0\0");
    assert_eq!(note.len(), header_len);
    note.extend(manifest.as_bytes());
    note
}

fn program_header(segment: &Segment) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(segment.kind.to_le_bytes());
    header.extend(segment.flags.to_le_bytes());
    for field in [
        segment.offset,
        segment.address,
        segment.address,
        segment.file_len,
        segment.memory_len,
        segment.align,
    ] {
        header.extend(field.to_le_bytes());
    }
    header
}

fn section_header(kind: u32, len: u64) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[4..8].copy_from_slice(&kind.to_le_bytes());
    header[32..40].copy_from_slice(&len.to_le_bytes());
    header
}
