//! What every host of Paravane guests does alike, be it the VMM or the shim: it reads an image, lays out
//! the guest's address space, tells the guest what it is to know, and says how it ended.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod backtrace;
pub mod bundle;
pub mod devices;
pub mod ending;
pub mod image;
pub mod report;
pub mod space;
pub mod start_info;
pub mod status;
pub mod tsc;
pub mod width;
