//! The start info page, which the guest reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paravane_abi::device::DEVICES_MAX;
use paravane_abi::start_info::{MAGIC, StartInfo};
use zerocopy::{FromZeros, IntoBytes};

/// Parses `page`, and uses what is in it if it is accepted.
fn check(page: &[u8]) {
    let Ok(info) = StartInfo::parse(page) else { return };
    assert!(info.devices().len() <= DEVICES_MAX);
    assert!(info.arguments().map(str::len).sum::<usize>() <= info.command_line.len());
    assert!(info.stack_end() <= info.ram_size);
    assert!(info.ram_base.checked_add(info.ram_size).is_some());
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // With the fields right that are compared with constants, so that the others are reached.
    let mut info = StartInfo::new_zeroed();
    let len = bytes.len().min(size_of::<StartInfo>());
    info.as_mut_bytes()[..len].copy_from_slice(&bytes[..len]);
    info.magic = MAGIC;
    info.abi_version = paravane_abi::ABI_VERSION;
    info.size = u32::try_from(size_of::<StartInfo>()).expect("less than a page");
    check(info.as_bytes());
});
