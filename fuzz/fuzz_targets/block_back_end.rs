//! The host side of a block device, with a hostile guest.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane::devices::{BlockDevice, Device};
use paravane_fuzz::guest::{Guest, Move};
use std::cell::OnceCell;
use std::fs::File;

const LEN: u64 = 64 * 512;

#[derive(Arbitrary, Debug)]
struct Input {
    is_read_only: bool,
    features: u64,
    moves: Vec<Move>,
}

thread_local! {
    static FILE: OnceCell<File> = const { OnceCell::new() };
}

fn file() -> File {
    FILE.with(|file| {
        let file = file.get_or_init(|| tempfile::tempfile().expect("there is room for a file"));
        file.set_len(LEN).expect("there is room for 32 KiB");
        file.try_clone().expect("there are descriptors")
    })
}

fuzz_target!(|input: Input| {
    let mut device = BlockDevice::new("disk", file(), input.is_read_only).expect("a good file");
    device.start().expect("there are threads");
    let mut guest = Guest::attach(&mut device, input.features);
    for step in &input.moves {
        if !guest.play(&mut device, step) {
            break;
        }
    }
    drop(device);
    assert_eq!(file().metadata().expect("a good file").len(), LEN);
});
