//! The image loader, which reads a file that anybody may have made: a good image with some bytes
//! changed, as few inputs would get beyond the magic number otherwise.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_host::image::Image;
use paravane_abi::layout::RAM_BASE;

#[path = "../../host/tests/common/elf.rs"]
mod elf;

/// Bytes to put at an offset.
#[derive(Arbitrary, Debug)]
enum Patch {
    Byte(u16, u8),
    Word(u16, u32),
    DoubleWord(u16, u64),
}

impl Patch {
    fn apply(&self, image: &mut [u8]) {
        let (at, bytes) = match self {
            Self::Byte(at, value) => (at, vec![*value]),
            Self::Word(at, value) => (at, value.to_le_bytes().to_vec()),
            Self::DoubleWord(at, value) => (at, value.to_le_bytes().to_vec()),
        };
        // Headers and notes are at the beginning, padding behind.
        let at = usize::from(*at) % image.len().min(1024);
        image[at..].iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    patches: Vec<Patch>,
    len: Option<u16>,
}

fuzz_target!(|input: Input| {
    let mut bytes = elf::ElfBuilder::default().build();
    input.patches.iter().for_each(|patch| patch.apply(&mut bytes));
    bytes.truncate(input.len.map_or(bytes.len(), usize::from));
    let Ok(image) = Image::read(bytes.as_slice()) else { return };
    let mut end = 0;
    for segment in image.segments() {
        let pages = segment.pages();
        assert!(pages.start >= end && pages.end >= pages.start, "segments overlap");
        end = pages.end;
    }
    assert_eq!(image.end(), end - RAM_BASE);
});
