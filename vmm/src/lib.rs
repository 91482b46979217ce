//! The host side of Paravane: loads an image, builds a domain for it, and runs it under KVM or as a
//! sandboxed process.

pub mod audit;
pub mod devices;
pub mod doctor;
pub mod memory;
pub mod net;
pub mod site;
