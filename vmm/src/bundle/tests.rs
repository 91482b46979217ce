//! Bundles as loaders and tar readers see them.
use super::*;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::endian::{U16, U32, U64};
use object::pod::{self, Pod};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Object, ObjectSection};
use paravane_abi::device::Ipv6Config;
use paravane_host::bundle::Ipv4;
use std::fs::{self, File};
use std::io::Read;
use tar::EntryType;
use tempfile::TempDir;

const NOTE: &[u8] = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x40\0\x20\0";

/// A shim of three pages: headers and note, code, and data with zeroes behind.
struct ShimFile {
    header: FileHeader64<LE>,
    programs: Vec<ProgramHeader64<LE>>,
    sections: Vec<SectionHeader64<LE>>,
    note: Vec<u8>,
}

fn zeroed<T: Pod + Copy>() -> T {
    let zeroes = [0_u8; 128];
    *pod::from_bytes(&zeroes).unwrap().0
}

fn program(
    kind: elf::ProgramType,
    page: u64,
    file_len: u64,
    memory_len: u64,
) -> ProgramHeader64<LE> {
    let address = 0x20_0000 + page * 0x1000;
    ProgramHeader64 {
        p_type: U32::new(LE, kind),
        p_offset: U64::new(LE, page * 0x1000),
        p_vaddr: U64::new(LE, address),
        p_paddr: U64::new(LE, address),
        p_filesz: U64::new(LE, file_len),
        p_memsz: U64::new(LE, memory_len),
        ..zeroed()
    }
}

impl Default for ShimFile {
    fn default() -> Self {
        let mut header: FileHeader64<LE> = zeroed();
        header.e_ident.magic = elf::ELFMAG;
        header.e_ident.class = elf::ELFCLASS64;
        header.e_ident.data = elf::ELFDATA2LSB;
        header.e_ident.version = elf::EV_CURRENT;
        header.e_type = U16::new(LE, elf::ET_EXEC);
        header.e_machine = U16::new(LE, elf::EM_X86_64);
        header.e_entry = U64::new(LE, 0x20_1000);
        let mut note = program(elf::PT_NOTE, 0, NOTE.len() as u64, NOTE.len() as u64);
        note.p_offset = U64::new(LE, 0x800);
        note.p_align = U64::new(LE, 4);
        let mut code: SectionHeader64<LE> = zeroed();
        code.sh_type = U32::new(LE, elf::SHT_PROGBITS);
        code.sh_offset = U64::new(LE, 0x1000);
        code.sh_size = U64::new(LE, 4);
        let mut names = code;
        names.sh_type = U32::new(LE, elf::SHT_STRTAB);
        names.sh_offset = U64::new(LE, 0x2f00);
        Self {
            header,
            programs: vec![
                program(elf::PT_LOAD, 0, 0x900, 0x900),
                program(elf::PT_LOAD, 1, 4, 4),
                program(elf::PT_LOAD, 2, 0x10, 0x2345),
                note,
            ],
            sections: vec![zeroed(), code, names],
            note: NOTE.to_vec(),
        }
    }
}

impl ShimFile {
    fn build(mut self) -> Vec<u8> {
        let count = |len| U16::new(LE, u16::try_from(len).unwrap());
        self.header.e_phoff = U64::new(LE, 64);
        self.header.e_phentsize = count(56);
        self.header.e_phnum = count(self.programs.len());
        self.header.e_shoff = U64::new(LE, 0x2100);
        self.header.e_shentsize = count(64);
        self.header.e_shnum = count(self.sections.len());
        self.header.e_shstrndx = U16::new(LE, elf::SymbolSection(2));
        let mut file = vec![0; 0x3000];
        let mut put = |offset: usize, bytes: &[u8]| {
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, pod::bytes_of(&self.header));
        put(64, pod::bytes_of_slice(&self.programs));
        put(0x800, &self.note);
        put(0x1000, b"code");
        put(0x2000, b"some data here..");
        put(0x2100, pod::bytes_of_slice(&self.sections));
        file
    }
}

fn shim() -> Shim {
    Shim::parse(ShimFile::default().build()).unwrap()
}

fn bundle(image: &[u8]) -> Bundle<'_> {
    Bundle {
        image,
        config: b"a = 1\n",
        arguments: vec!["-x".to_owned()],
        disks: vec![crate::devices::padded_tag("site")],
        is_own_disk: true,
        file_len: 0,
        ipv4: Ipv4::default(),
        ipv6: Ipv6Config::default(),
        watchdog_seconds: 10,
    }
}

/// A folder with `site/index.html` and `site/folder/page.html`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("site/folder")).unwrap();
    fs::write(folder.path().join("site/index.html"), "index").unwrap();
    fs::write(folder.path().join("site/folder/page.html"), "page").unwrap();
    folder
}

/// Writes a bundle with an image of `image_len` bytes, and gives its bytes.
fn written(folder: &TempDir, image_len: usize, site: Option<&Path>) -> Vec<u8> {
    let path = folder.path().join("site.elf");
    let len = write(&shim(), &bundle(&vec![0x90; image_len]), site, &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

#[test]
fn a_loader_finds_the_shim_and_the_payload_behind_it() {
    let folder = folder();
    let bytes = written(&folder, 100_000, Some(&folder.path().join("site")));
    let header = FileHeader64::<LE>::parse(bytes.as_slice()).unwrap();
    let programs = header.program_headers(LE, bytes.as_slice()).unwrap();
    let original = ShimFile::default().build();
    for (old, new) in ShimFile::default().programs.iter().zip(programs) {
        assert_eq!(old.data(LE, original.as_slice()), new.data(LE, bytes.as_slice()));
        assert_eq!(old.p_paddr.get(LE), new.p_paddr.get(LE));
        assert_eq!(old.p_memsz.get(LE), new.p_memsz.get(LE));
    }
    let mut loads = programs.iter().filter(|p| p.p_type.get(LE) == elf::PT_LOAD);
    for load in loads.clone() {
        assert!((load.p_paddr.get(LE) ^ load.p_offset.get(LE)).is_multiple_of(0x1000));
    }
    // 0x20_2000 and 0x2345 bytes of data, in whole pages.
    let payload = loads.next_back().unwrap();
    assert_eq!(payload.p_paddr.get(LE), 0x20_5000);
    assert_eq!(payload.p_flags.get(LE), elf::PF_R);
    let parsed = Bundle::parse(payload.data(LE, bytes.as_slice()).unwrap()).unwrap();
    let image = vec![0x90; 100_000];
    assert_eq!(parsed, Bundle { file_len: bytes.len() as u64, ..bundle(&image) });
}

#[test]
fn sections_and_notes_are_where_the_headers_say() {
    let folder = folder();
    let bytes = written(&folder, 10, None);
    let file = object::File::parse(bytes.as_slice()).unwrap();
    assert_eq!(file.entry(), 0x20_1000);
    let code = file.sections().next().unwrap();
    assert_eq!(code.data().unwrap(), b"code");
    assert!(Shim::parse(bytes).is_ok(), "a bundle has the shim's note");
}

/// Names and contents of the files that a tar reader finds.
fn listing(bytes: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let files = entries.filter(|e| e.header().entry_type() == EntryType::Regular);
    let read = |mut entry: tar::Entry<'_, &[u8]>| {
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    };
    files.map(read).collect()
}

#[test]
fn a_tar_reader_finds_the_site() {
    let folder = folder();
    // Every length of the last sector before the site, and of the number that starts the comment.
    for image_len in (0..600).chain([99_000, 990_000, 1_000_000, 3_000_000]) {
        let bytes = written(&folder, image_len, Some(&folder.path().join("site")));
        assert!(bytes.len().is_multiple_of(512));
        let page = ("folder/page.html".to_owned(), "page".to_owned());
        let index = ("index.html".to_owned(), "index".to_owned());
        assert_eq!(listing(&bytes), [page, index], "{image_len}");
    }
    assert_eq!(listing(&written(&folder, 10, None)), []);
}

#[test]
fn the_comment_is_one_record() {
    let folder = folder();
    let bytes = written(&folder, 12345, None);
    let len = tar::Header::from_byte_slice(&bytes[..512]).entry_size().unwrap();
    let record = &bytes[512..512 + usize::try_from(len).unwrap()];
    assert!(record.starts_with(format!("{len} comment=").as_bytes()));
    assert_eq!(record.last(), Some(&b'\n'));
}

#[test]
fn a_tar_file_is_put_in_as_it_is() {
    let folder = folder();
    let tar = folder.path().join("site.tar");
    site::write(&folder.path().join("site"), File::create(&tar).unwrap()).unwrap();
    let of_directory = written(&folder, 10, Some(&folder.path().join("site")));
    assert_eq!(written(&folder, 10, Some(&tar)), of_directory);
    // Without the end of the archive, as some programs leave it, and not in whole sectors.
    let file = File::options().write(true).open(&tar).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1024 - 500).unwrap();
    let bytes = written(&folder, 10, Some(&tar));
    assert!(bytes.len().is_multiple_of(512));
    assert_eq!(listing(&bytes), listing(&of_directory));
}

#[test]
fn what_is_no_tar_is_refused() {
    let folder = folder();
    let path = folder.path().join("site.tar");
    let refused = |content: &[u8], says: &str| {
        fs::write(&path, content).unwrap();
        let output = folder.path().join("out.elf");
        let error = write(&shim(), &bundle(b"i"), Some(&path), &output).unwrap_err().to_string();
        assert!(error.contains("site.tar is not") && error.contains(says), "{error}");
        assert!(!output.exists());
    };
    refused(&[0x5a; 2000], "");
    let mut good = Vec::new();
    site::write(&folder.path().join("site"), &mut good).unwrap();
    refused(&good[..good.len() - 1024 - 510], "in the middle of a file");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing is left behind: {left:?}");
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    let folder = folder();
    let site = folder.path().join("site");
    assert_eq!(written(&folder, 5000, Some(&site)), written(&folder, 5000, Some(&site)));
}

#[test]
fn a_bundle_is_read_again() {
    let folder = folder();
    let bytes = written(&folder, 5000, Some(&folder.path().join("site")));
    let parts = Parts::read(bytes.as_slice()).unwrap().unwrap();
    assert_eq!(parts.bundle().unwrap().image, vec![0x90; 5000]);
    assert_eq!(parts.bundle().unwrap().file_len, bytes.len() as u64);
    assert!(Shim::parse(parts.shim().to_vec()).is_ok());
    for other in [&b""[..], b"\x7fELF", &ShimFile::default().build(), &bytes[512..]] {
        assert!(Parts::read(other).unwrap().is_none());
    }
    let cut = Parts::read(&bytes[..0x5000]).unwrap().unwrap();
    assert!(cut.bundle().is_err());
}

#[test]
fn what_is_in_the_way_stays() {
    let folder = folder();
    let site = folder.path().join("site");
    let attempt = |path: &Path| write(&shim(), &bundle(b"i"), Some(&site), path).unwrap_err();
    assert!(matches!(attempt(&site.join("x.elf")), WriteError::InSite(_)));
    assert!(matches!(attempt(&site.join("folder/x.elf")), WriteError::InSite(_)));
    assert!(matches!(attempt(folder.path()), WriteError::NotAFile(_)));
    assert!(matches!(attempt(Path::new("/dev/null")), WriteError::NotAFile(_)));
    assert!(matches!(attempt(Path::new("/")), WriteError::NotAFile(_)));
    assert!(matches!(attempt(&folder.path().join("no/x.elf")), WriteError::Output { .. }));
}

#[test]
fn what_is_no_shim_is_refused() {
    let check = |change: fn(&mut ShimFile), says: &str| {
        let mut file = ShimFile::default();
        change(&mut file);
        let error = Shim::parse(file.build()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    assert_eq!(shim().end, 0x20_5000);
    check(|f| f.header.e_ident.magic = [0; 4], "not an ELF file");
    check(|f| f.header.e_type = U16::new(LE, elf::ET_DYN), "not a static executable");
    check(|f| f.header.e_machine = U16::new(LE, elf::EM_386), "not a static executable");
    check(|f| f.programs.clear(), "no note");
    check(|f| f.note[8] = 1, "no note");
    check(|f| f.note[12] = b'Y', "no note");
    check(|f| f.programs[1].p_offset = U64::new(LE, 0x1001), "segment 1");
    check(|f| f.programs[2].p_filesz = U64::new(LE, 0x10000), "segment 2");
    check(|f| f.programs[2].p_memsz = U64::new(LE, u64::MAX), "not a static executable");
}
