//! The payload of a bundle, which the shim reads wherever a loader put it: a good one with some bytes
//! changed and the checksum right, as few inputs would get beyond it otherwise.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_abi::device::Ipv6Config;
use paravane_host::bundle::{Bundle, DISKS_MAX, Ipv4, Tag};

/// Where the checksum lies.
const CHECKSUM: std::ops::Range<usize> = 12..16;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    image: &'a [u8],
    config: &'a [u8],
    arguments: Vec<String>,
    disks: Vec<Tag>,
    is_own_disk: bool,
    file_len: u64,
    address: [u8; 4],
    prefix_len: u8,
    ipv6: ([u8; 16], u8, u8),
    /// Bytes to put at an offset.
    patches: Vec<(u16, u64)>,
    is_checksum_right: bool,
    len: Option<u16>,
}

/// Parses `bytes`, and looks whether what is accepted can be written down and read again.
fn check(bytes: &[u8]) {
    let Ok(bundle) = Bundle::parse(bytes) else { return };
    assert!(bundle.disks.len() <= DISKS_MAX && bundle.ipv4.prefix_len <= 32);
    // Parts may overlap: apart, they can be longer than the file was said to be.
    let bundle = Bundle { file_len: u64::MAX, ..bundle };
    let again = bundle.encode().expect("what was read can be written");
    assert_eq!(Bundle::parse(&again), Ok(bundle));
}

fuzz_target!(|input: Input<'_>| {
    let (address, mode, prefix_len) = input.ipv6;
    let bundle = Bundle {
        image: input.image,
        config: input.config,
        arguments: input.arguments,
        disks: input.disks,
        is_own_disk: input.is_own_disk,
        file_len: input.file_len,
        ipv4: Ipv4::new(input.address, input.prefix_len, [0; 4], [0; 4]),
        ipv6: Ipv6Config { address, mode, prefix_len, ..Ipv6Config::default() },
        watchdog_seconds: 10,
    };
    let Ok(mut bytes) = bundle.encode() else { return };
    for (at, value) in input.patches {
        let at = usize::from(at) % bytes.len();
        bytes[at..].iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
    if input.is_checksum_right {
        let len = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
        let len = usize::try_from(len).unwrap_or(usize::MAX).clamp(CHECKSUM.end, bytes.len());
        bytes[CHECKSUM].fill(0);
        let checksum = crc32fast::hash(&bytes[..len]);
        bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes.truncate(input.len.map_or(bytes.len(), usize::from));
    check(&bytes);
});
