//! Where frames come from and go to.
use super::super::slices::{GuestSlice, SLICES_MAX, copy_in, copy_out, total_len};
use crate::net::wire::{self, Takes, Wants};
use paravane_abi::device::feature;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Offloads of linux/if_tun.h: partial checksums, and large TCPv4 and TCPv6 segments, may be read from
/// the TAP.
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;

/// What takes and gives Ethernet frames, each preceded by the 12-byte virtio-net header, without ever
/// blocking.
#[derive(Debug)]
pub enum FrameLink {
    /// A TAP interface with `IFF_VNET_HDR`, header length 12 and offloads on, see `net::tap`: one read
    /// or write is one frame.
    Tap(OwnedFd),
    /// The guest's end of the wire to the user network.
    Wire(Wire),
}

/// The guest's end of the wire to the user network.
#[derive(Debug)]
pub struct Wire {
    end: wire::End,
    /// The bell may have been rung: we slept.
    may_ring: AtomicBool,
}

impl From<wire::End> for FrameLink {
    fn from(end: wire::End) -> Self {
        Self::Wire(Wire { end, may_ring: AtomicBool::new(false) })
    }
}

impl FrameLink {
    /// Adds all descriptors.
    pub(super) fn descriptors(&self, descriptors: &mut Vec<RawFd>) {
        match self {
            Self::Tap(tap) => descriptors.push(tap.as_raw_fd()),
            Self::Wire(wire) => descriptors.extend(wire.end.descriptors()),
        }
    }

    /// The guest's driver is there and has these features: whoever is behind the frames is not to hand
    /// out any that it cannot take.
    pub(super) fn restrict(&self, features: u64) -> io::Result<()> {
        let takes = Takes {
            partial_checksums: features & feature::NET_GUEST_CSUM != 0,
            large_segments: features & feature::NET_GUEST_TSO4 != 0,
        };
        match self {
            Self::Tap(tap) => restrict_tap(tap, features)?,
            Self::Wire(wire) => wire.end.attach(takes),
        }
        Ok(())
    }

    /// To be called before frames are read and written: sleep, if there was any, is over.
    pub(super) fn wake_up(&self) {
        if let Self::Wire(wire) = self
            && wire.may_ring.swap(false, Ordering::Relaxed)
        {
            wire.end.disarm();
            wire.end.silence();
        }
    }

    /// To be called after frames were read or written: the other side hears of it.
    pub(super) fn flush(&self) {
        if let Self::Wire(wire) = self {
            wire.end.wake_peer();
        }
    }

    /// What to sleep on until there is some of `wants`.
    pub(super) fn interest(&self, wants: Wants) -> Option<libc::pollfd> {
        if wants == Wants::default() {
            return None;
        }
        let (fd, events) = match self {
            Self::Tap(tap) => {
                let read = if wants.messages { libc::POLLIN } else { 0 };
                let write = if wants.room { libc::POLLOUT } else { 0 };
                (tap.as_raw_fd(), read | write)
            }
            Self::Wire(wire) => {
                wire.may_ring.store(true, Ordering::Relaxed);
                if !wire.end.arm(wants) {
                    wire.end.ring_own();
                }
                (wire.end.bell().as_raw_fd(), libc::POLLIN)
            }
        };
        Some(libc::pollfd { fd, events, revents: 0 })
    }

    /// Reads one frame into `slices`; what does not fit is lost. The number of bytes, 0 at the end.
    pub(super) fn read(&mut self, slices: &[GuestSlice]) -> io::Result<usize> {
        match self {
            Self::Tap(tap) => read_tap(tap, slices),
            Self::Wire(wire) if wire.end.is_closed() => Ok(0),
            Self::Wire(wire) => {
                let len = wire.end.incoming.pop(|message| {
                    copy_in(slices, message);
                    message.len()
                })?;
                len.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
        }
    }

    /// Writes one frame: the header and all that is behind it.
    pub(super) fn write(&mut self, slices: &[GuestSlice]) -> io::Result<()> {
        let wire = match self {
            Self::Tap(tap) => return write_tap(tap, slices),
            Self::Wire(wire) => wire,
        };
        if wire.end.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let is_sent = wire.end.outgoing.push(total_len(slices), |room| copy_out(slices, room));
        if is_sent { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

/// Stops the TAP from handing out frames that a guest with these features does not take.
fn restrict_tap(tap: &OwnedFd, features: u64) -> io::Result<()> {
    let offloads = offloads(features);
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn read_tap(tap: &OwnedFd, slices: &[GuestSlice]) -> io::Result<usize> {
    let count = slices.len().min(SLICES_MAX);
    // SAFETY: `GuestSlice` is transparent over `iovec`; every slice names mapped memory of which no
    // reference exists.
    let result = unsafe { libc::readv(tap.as_raw_fd(), slices.as_ptr().cast(), int(count)) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn write_tap(tap: &OwnedFd, slices: &[GuestSlice]) -> io::Result<()> {
    // SAFETY: as in `read_tap`; the kernel only reads.
    let result =
        unsafe { libc::writev(tap.as_raw_fd(), slices.as_ptr().cast(), int(slices.len())) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a TAP may hand out to a guest with these features. Segments need partial checksums.
fn offloads(features: u64) -> libc::c_uint {
    if features & feature::NET_GUEST_CSUM == 0 {
        return 0;
    }
    let kinds = [(feature::NET_GUEST_TSO4, TUN_F_TSO4), (feature::NET_GUEST_TSO6, TUN_F_TSO6)];
    let kinds = kinds.into_iter().filter(|(bit, _)| features & bit != 0);
    kinds.fold(TUN_F_CSUM, |offloads, (_, offload)| offloads | offload)
}

fn int(count: usize) -> libc::c_int {
    libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_hands_out_what_the_guest_takes() {
        use feature::{NET_GUEST_CSUM, NET_GUEST_TSO4, NET_GUEST_TSO6};
        assert_eq!(offloads(NET_GUEST_TSO4 | NET_GUEST_TSO6), 0);
        assert_eq!(offloads(NET_GUEST_CSUM), TUN_F_CSUM);
        assert_eq!(offloads(NET_GUEST_CSUM | NET_GUEST_TSO6), TUN_F_CSUM | TUN_F_TSO6);
        let all = NET_GUEST_CSUM | NET_GUEST_TSO4 | NET_GUEST_TSO6;
        assert_eq!(offloads(all), TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
    }
}
