//! What every host of Paravane guests does alike, be it the VMM or the shim: it reads an image, lays out
//! the guest's address space, describes the guest to itself, and says how it ended.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
