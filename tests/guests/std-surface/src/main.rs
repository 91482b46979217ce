//! Guest that uses std and the C library function by function.
//!
//! Without arguments it makes all checks, prints `ok NAME` for each, and ends with status 0; a check
//! that fails panics. With an argument it ends as the argument says, see [`ends`].
#![expect(clippy::unwrap_used, reason = "a test guest: what fails is to panic")]
use paravane_libc::abi::manifest::Manifest;

mod absent;
mod bytes;
mod collections;
mod ends;
mod io;
mod maths;
mod memory;
mod process;
mod storage;
mod string;
mod sync;
mod thread;
mod time;

// The first stack slot is the main stack, the others are for fibers.
paravane_libc::image!(Manifest::new("std-surface", 8 << 20, &[]).with_stacks(4, 128 << 10));

/// A check and its name.
type Check = (&'static str, fn());

const GROUPS: [&[Check]; 12] = [
    absent::CHECKS,
    bytes::CHECKS,
    collections::CHECKS,
    io::CHECKS,
    maths::CHECKS,
    memory::CHECKS,
    process::CHECKS,
    storage::CHECKS,
    string::CHECKS,
    sync::CHECKS,
    thread::CHECKS,
    time::CHECKS,
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(arguments[0], "std-surface", "the first argument is the image's name");
    if let Some((end, rest)) = arguments[1..].split_first() {
        ends::end(end, rest);
    }
    for (name, check) in GROUPS.into_iter().flatten() {
        check();
        println!("ok {name}");
    }
}

/// Asserts that a C call failed with -1 and this `errno`.
fn assert_fails(result: impl Into<i64>, errno: i32) {
    let found = std::io::Error::last_os_error().raw_os_error();
    assert_eq!((result.into(), found), (-1, Some(errno)));
}
