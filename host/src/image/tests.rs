//! The loader against images built byte by byte.
use super::*;
use proptest::prelude::*;

#[path = "../../tests/common/elf.rs"]
mod elf_builder;
pub(crate) use elf_builder::{ElfBuilder, Segment as Header};

fn read(elf: &ElfBuilder) -> Result<Image, ImageError> {
    Image::read(elf.build().as_slice())
}

/// The sentence with which the default image, changed by `change`, is refused.
fn refusal(change: fn(&mut ElfBuilder)) -> String {
    let mut elf = ElfBuilder::default();
    change(&mut elf);
    read(&elf).unwrap_err().to_string()
}

#[test]
fn a_well_formed_image_is_read() {
    let image = read(&ElfBuilder::default()).unwrap();
    assert_eq!(image.manifest().name(), "test");
    assert_eq!(image.entry(), IMAGE_BASE + 0x1000);
    assert_eq!(image.end(), 0x20_3000);
    let access: Vec<_> = image.segments().iter().map(|s| s.access).collect();
    assert_eq!(access, [Access::Read, Access::ReadExecute, Access::ReadWrite]);
}

#[test]
fn each_rule_refuses() {
    let check = |change: fn(&mut ElfBuilder), expect: &str| {
        let found = refusal(change);
        assert!(found.contains(expect), "{found:?} does not say {expect:?}");
    };
    check(|e| e.class = 1, "not one for 64-bit x86");
    check(|e| e.machine = 183, "not one for 64-bit x86");
    check(|e| e.kind = 3, "link it without PIE");
    check(|e| e.segments[0].kind = 2, "dynamically linked");
    check(|e| e.segments[0].kind = 3, "dynamically linked");
    check(|e| e.sections = vec![(0, 0), (4, 24)], "relocations (section 1)");
    check(|e| e.sections = vec![(9, 1)], "relocations (section 0)");
    check(|e| e.sections = vec![(19, 8)], "relocations (section 0)");
    check(|e| e.segments[1].flags = 7, "segment 1 of the image is writable and executable");
    check(|e| e.segments[2].address = 0x40_2000, "outside the addresses");
    check(|e| e.segments[2].address = u64::MAX - 0xfff, "outside the addresses");
    check(|e| e.segments[2].memory_len = u64::MAX, "outside the addresses");
    check(|e| e.segments[2].memory_len = RAM_SIZE_MAX, "outside the addresses");
    check(|e| e.segments[1].memory_len = 1, "longer in the file than in memory");
    check(|e| e.segments[1].address += 8, "not aligned to pages");
    check(|e| e.segments[0].memory_len = 0x1001, "share the page at 0x100000201000");
    check(|e| e.segments[2].offset = 1 << 40, "truncated");
    check(|e| e.segments.clear(), "no segments");
    check(|e| e.entry = 0, "entry point 0x0 does not lie");
    check(|e| e.entry = IMAGE_BASE, "does not lie in an executable segment");
    check(|e| e.entry = IMAGE_BASE + 0x2000, "does not lie in an executable segment");
    check(|e| e.manifests.clear(), "no Paravane manifest");
    check(|e| e.manifests.push(e.manifests[0]), "more than one manifest");
    check(|e| e.manifests[0].abi_version = 0x2_0003, "version 2.3 of the contract");
    check(|e| e.manifests[0].stack_slots = 0, "stack slots");
    check(|e| e.manifests[0].device_count = 99, "device list");
    check(|e| e.manifests[0].name = [0; 32], "name");
}

#[test]
fn thread_local_storage_must_make_sense() {
    let tls = |change: fn(&mut Header)| {
        let mut elf = ElfBuilder::default();
        let mut header = Header { kind: 7, ..Header::load(4, 0x40, 16, 64) };
        header.align = 32;
        change(&mut header);
        elf.segments.push(header);
        read(&elf).map(|_| ())
    };
    assert!(tls(|_| {}).is_ok());
    assert!(tls(|h| h.align = 0).is_ok());
    for change in [
        |h: &mut Header| h.align = 24,
        |h: &mut Header| h.align = 1 << 20,
        |h: &mut Header| h.memory_len = 8,
        |h: &mut Header| h.memory_len = u64::MAX,
        |h: &mut Header| h.address = 0,
        |h: &mut Header| h.address = u64::MAX,
    ] {
        assert!(matches!(tls(change), Err(ImageError::ThreadLocal)));
    }
}

#[test]
fn files_that_are_no_images_are_refused() {
    let refused = |bytes: &[u8]| Image::read(bytes).unwrap_err().to_string();
    assert_eq!(refused(b""), "the file is not an ELF file");
    assert_eq!(refused(b"#!/bin/sh\n"), "the file is not an ELF file");
    assert_eq!(refused(&[b'x'; 4096]), "the file is not an ELF file");
    let file = ElfBuilder::default().build();
    assert!(refused(&file[..80]).contains("truncated"));
    assert!(refused(&file[..0x1800]).contains("truncated"));
}

proptest! {
    /// Whatever becomes of the bytes, the loader answers, and what it takes keeps the rules.
    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((0..0x400_usize, any::<u8>()), 1..8),
        len in 0..0x2000_usize,
        cut in any::<bool>(),
    ) {
        let mut file = ElfBuilder::default().build();
        for (at, byte) in changes {
            file[at] = byte;
        }
        if cut {
            file.truncate(len);
        }
        if let Ok(image) = Image::read(file.as_slice()) {
            let pages: Vec<_> = image.segments().iter().map(Segment::pages).collect();
            prop_assert!(pages.windows(2).all(|w| w[0].end <= w[1].start));
            prop_assert!(pages.iter().all(|p| p.start >= IMAGE_BASE));
            prop_assert!(image.segments().iter().all(|s| s.file_len <= s.memory_len));
        }
    }
}
