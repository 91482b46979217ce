//! The host side of Paravane: loads an image, builds a domain for it, and runs it under KVM or as a
//! sandboxed process.

pub mod allocator;
pub mod audit;
pub mod backend;
pub mod black_box;
pub mod bundle;
pub mod cli;
pub mod devices;
pub mod doctor;
pub mod domain;
pub mod image_file;
pub mod jail;
pub mod memory;
pub mod net;
mod notice;
pub mod report;
pub mod site;
pub mod supervisor;
