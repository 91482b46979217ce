//! A domain: the guest's memory, devices and clock, and what its hypercalls do.
mod clock;
mod crash;
mod gates;
mod hypercall;
mod ram;
mod wait;

use crate::machine::apic::Apic;
use crate::virtio::Device;
use alloc::string::String;
use alloc::vec::Vec;
use paravane_host::space::AddressSpace;

pub use clock::Clock;
pub use gates::{exception, hypercall, timer};
pub use ram::Ram;

/// A domain, built and ready to be entered.
#[derive(Debug)]
pub struct Domain {
    /// Name of the image.
    pub name: String,
    /// The image file, for the names of functions.
    pub image: &'static [u8],
    /// Which page the guest may use how.
    pub space: AddressSpace,
    /// Its RAM.
    pub ram: Ram,
    /// The machine's devices, by their index in the device table.
    pub devices: Vec<Device>,
    /// Time, and how long the guest may go without a hypercall.
    pub clock: Clock,
    /// The interrupt controllers.
    pub apic: Apic,
    /// How far a request to stop has got.
    pub stop: Stop,
}

/// How far a request to stop has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stop {
    /// Nobody asked.
    #[default]
    NotRequested,
    /// Somebody did; the guest does not know yet.
    Requested,
    /// The guest was told, and sleeps as usual from then on.
    Told,
}
