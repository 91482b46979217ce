//! Guest that uses std and the C library function by function.
use paravane_libc::abi::manifest::Manifest;

paravane_libc::image!(Manifest::new("std-surface", 8 << 20, &[]));

fn main() {
    println!("ok println");
}
