//! The transmit queue: frames of the guest go out.
use super::super::GuestFault;
use super::super::queue::{Chain, Virtqueue};
use super::super::slices::{GuestSlice, read_at, skip_bytes, total_len};
use super::frames::FrameLink;
use super::header::{ETHERNET_LEN, HEADER_LEN, checked};
use crate::memory::GuestRam;
use std::io;

/// Longest frame that is taken, bytes: an IP packet of the largest size with its Ethernet header.
const FRAME_LEN_MAX: usize = ETHERNET_LEN + 0xFFFF;

/// The transmit side of the device.
#[derive(Debug)]
pub(super) struct Transmitter {
    pub(super) queue: Virtqueue,
    features: u64,
    chain: Chain,
    header: Box<[u8; HEADER_LEN]>,
    /// The frame link took no more: wait until it has room.
    pub(super) is_blocked: bool,
}

impl Transmitter {
    pub(super) fn new(queue: Virtqueue, features: u64) -> Self {
        Self { queue, features, chain: Chain::default(), header: Box::default(), is_blocked: false }
    }

    /// Sends what the guest has queued, until the frame link takes no more.
    pub(super) fn run(&mut self, ram: &GuestRam, frames: &mut FrameLink) -> Result<(), GuestFault> {
        self.is_blocked = false;
        loop {
            while self.queue.pop(ram, &mut self.chain)? {
                if !self.send(frames)? {
                    self.queue.undo_pop();
                    self.is_blocked = true;
                    return Ok(());
                }
                self.queue.add_used(ram, self.chain.head, 0)?;
            }
            if !self.queue.request_notification(ram)? {
                return Ok(());
            }
        }
    }

    /// Sends the frame of the chain. False if it is to be tried again later. A frame that the host
    /// refuses is lost, as on a wire.
    fn send(&mut self, frames: &mut FrameLink) -> Result<bool, GuestFault> {
        self.take_header()?;
        loop {
            let Err(error) = frames.write(&self.chain.readable) else { return Ok(true) };
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(false),
                io::ErrorKind::Interrupted => {}
                _ if error.raw_os_error() == Some(libc::EFAULT) => {
                    return Err(self.queue.fault("a frame to send is not in readable memory"));
                }
                _ => return Ok(true),
            }
        }
    }

    /// Replaces the guest's header by a checked copy, so that what was checked is what is sent.
    fn take_header(&mut self) -> Result<(), GuestFault> {
        let slices = &mut self.chain.readable;
        let len = total_len(slices);
        if !self.chain.writable.is_empty() {
            return Err(self.queue.fault("a frame to send has a writable buffer"));
        }
        if !(HEADER_LEN..=HEADER_LEN + FRAME_LEN_MAX).contains(&len) {
            return Err(self.queue.fault(format!("a frame to send has {len} bytes")));
        }
        let mut header = [0; HEADER_LEN];
        read_at(slices, 0, &mut header);
        *self.header = checked(header, len - HEADER_LEN, self.features)
            .map_err(|what| self.queue.fault(what))?;
        skip_bytes(slices, HEADER_LEN);
        slices.insert(0, GuestSlice::of_host(self.header.as_mut_slice()));
        Ok(())
    }
}
