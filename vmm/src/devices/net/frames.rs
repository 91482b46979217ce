//! Where frames come from and go to.
use super::super::slices::GuestSlice;
use paravane_abi::device::feature;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// `TUN_F_CSUM` of linux/if_tun.h: partial checksums may be read from the TAP.
const TUN_F_CSUM: libc::c_uint = 0x01;

/// A non-blocking descriptor of which one read or write is one Ethernet frame, preceded by the 12-byte
/// virtio-net header.
#[derive(Debug)]
pub enum FrameDescriptor {
    /// A TAP interface with `IFF_VNET_HDR`, header length 12 and offloads on, see `net::tap`.
    Tap(OwnedFd),
    /// One end of an `AF_UNIX` `SOCK_SEQPACKET` pair; the user-mode network has the other.
    Socket(OwnedFd),
}

impl FrameDescriptor {
    pub(super) fn raw(&self) -> RawFd {
        match self {
            Self::Tap(descriptor) | Self::Socket(descriptor) => descriptor.as_raw_fd(),
        }
    }

    /// Stops the TAP from handing out frames that a guest with these features cannot take. A user-mode
    /// network never does.
    pub(super) fn restrict(&self, features: u64) -> io::Result<()> {
        let all = feature::NET_GUEST_CSUM | feature::NET_GUEST_TSO4;
        let Self::Tap(descriptor) = self else { return Ok(()) };
        if features & all == all {
            return Ok(());
        }
        let checksums = features & feature::NET_GUEST_CSUM != 0;
        let offloads = if checksums { TUN_F_CSUM } else { 0 };
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads one frame into `slices`; what does not fit is lost. The number of bytes, 0 at the end.
    pub(super) fn read(&self, slices: &[GuestSlice]) -> io::Result<usize> {
        let count = slices.len().min(super::super::slices::SLICES_MAX);
        // SAFETY: `GuestSlice` is transparent over `iovec`; every slice names mapped memory of which no
        // reference exists.
        let result = unsafe { libc::readv(self.raw(), slices.as_ptr().cast(), int(count)) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Writes one frame: `header`, then `slices`.
    pub(super) fn write(&self, slices: &[GuestSlice]) -> io::Result<()> {
        // SAFETY: as in `read`; the kernel only reads.
        let result = unsafe { libc::writev(self.raw(), slices.as_ptr().cast(), int(slices.len())) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn int(count: usize) -> libc::c_int {
    libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX)
}
