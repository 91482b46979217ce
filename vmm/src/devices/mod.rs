//! The host side of the devices: one folder each, the same code on every backend.
//!
//! A device works only inside hypercalls of the thread that runs the guest: `NOTIFY` hands it what
//! the guest queued, `WAIT` polls it. While the guest idles in `WAIT`, the thread sleeps in poll(2)
//! on the descriptors that the devices name. Nothing here may block.
use crate::memory::GuestRam;
use paravane_abi::device::{Attach, Device as TableEntry, Ipv6Config};
use std::io;
use std::os::fd::RawFd;

pub mod block;
pub mod net;
mod queue;
mod slices;
#[cfg(test)]
mod test_driver;

pub use block::BlockDevice;
pub use net::{FrameLink, NetDevice};

/// The guest broke the rules of its virtqueue: the domain ends with this sentence in its report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guest broke the virtqueue contract of device {device}, queue {queue}: {what}")]
pub struct GuestFault {
    /// Index of the device.
    pub device: usize,
    /// Index of the virtqueue.
    pub queue: u16,
    /// What the guest did, as a clause.
    pub what: String,
}

/// The host side of one device.
pub trait Device: std::fmt::Debug {
    /// The device's entry of the start info's device table.
    fn entry(&self) -> TableEntry;

    /// The device's IPv6 configuration in the start info; all zero if it is no network.
    fn ipv6(&self) -> Ipv6Config {
        Ipv6Config::default()
    }

    /// Starts what the device needs beside the thread of the guest. Called once, in the domain's
    /// process, before it is confined and before the guest runs.
    ///
    /// # Errors
    /// The host has no thread or descriptor left.
    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Takes the rings of the guest into use. `attach` is validated against [`Device::entry`].
    ///
    /// # Errors
    /// The rings cannot be used.
    fn attach(&mut self, ram: &GuestRam, attach: &Attach) -> Result<(), GuestFault>;

    /// The guest queued buffers in virtqueue `queue` of an attached device.
    ///
    /// # Errors
    /// The ring or a request in it is malformed beyond what the device can answer with a status.
    fn notify(&mut self, ram: &GuestRam, queue: u16) -> Result<(), GuestFault>;

    /// Moves what is ready, without blocking. True if the guest is to be told: used buffers were
    /// added, here or in an earlier `notify`, that the guest's event index asks to hear of.
    ///
    /// # Errors
    /// As for [`Device::notify`].
    fn poll(&mut self, ram: &GuestRam) -> Result<bool, GuestFault>;

    /// Adds every descriptor that the device was made with: the domain's process closes all others
    /// before [`Device::start`].
    fn descriptors(&self, descriptors: &mut Vec<RawFd>);

    /// Adds the descriptors to sleep on until [`Device::poll`] has something to do.
    fn interests(&self, descriptors: &mut Vec<libc::pollfd>);
}

/// A tag as the device table has it: at most 16 bytes, whole characters, padded with NUL.
pub(crate) fn padded_tag(tag: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    let len = tag.floor_char_boundary(padded.len());
    padded[..len].copy_from_slice(&tag.as_bytes()[..len]);
    padded
}
