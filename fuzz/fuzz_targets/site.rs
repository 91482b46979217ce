//! The index of a site's archive, which the operator may have got from anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paravane_fuzz::web::MemoryDisk;
use paravane_http::index;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

/// A header with a right checksum, and otherwise of the input's making.
fn header(bytes: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..bytes.len()].copy_from_slice(bytes);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fuzz_target!(|bytes: &[u8]| {
    let mut raw = bytes.to_vec();
    raw.resize(bytes.len().next_multiple_of(512), 0);
    let with_checksums = bytes.chunks(512).flat_map(header).collect();
    for archive in [raw, with_checksums] {
        let disk = MemoryDisk(Rc::new(archive));
        let indexed = pin!(index(disk)).poll(&mut Context::from_waker(Waker::noop()));
        assert!(indexed.is_ready());
    }
});
