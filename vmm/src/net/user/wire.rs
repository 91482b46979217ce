//! The wire to the guest: a socket of which one message is a frame behind a virtio-net header
//! (virtio 1.2, 5.1.6).
use paravane_netstack::{FramePort, RxMeta, TxMeta};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const HEADER_LEN: usize = 12;
/// Longest message: a header, an Ethernet header and an IP packet of the largest size.
const MESSAGE_LEN_MAX: usize = HEADER_LEN + 14 + 0x1_0000;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is left to us, and the frame never was on a wire.
const NEEDS_CSUM: u8 = 1;

/// Frames from the guest.
#[derive(Debug)]
pub(super) struct Reader {
    socket: Arc<OwnedFd>,
    message: Vec<u8>,
    /// There may be more to read.
    pub(super) is_ready: bool,
}

impl Reader {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, message: vec![0; MESSAGE_LEN_MAX], is_ready: true }
    }

    /// The next frame, if there is one now.
    ///
    /// # Errors
    /// The guest's end is closed, or the socket fails.
    pub(super) fn next(&mut self) -> io::Result<Option<(&[u8], RxMeta)>> {
        if !self.is_ready {
            return Ok(None);
        }
        let len = match recv(&self.socket, &mut self.message[..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((len, _)) => len,
            Err(Errno::INTR) => return Ok(None),
            Err(Errno::AGAIN) => {
                self.is_ready = false;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        // A message without even a header makes an empty frame, which the stack drops.
        let frame = self.message[..len].get(HEADER_LEN..).unwrap_or_default();
        Ok(Some((frame, RxMeta { csum_valid: self.message[0] & NEEDS_CSUM != 0 })))
    }
}

/// Frames to the guest.
#[derive(Debug)]
pub(super) struct Writer {
    socket: Arc<OwnedFd>,
    message: Vec<u8>,
    /// Bytes of the message that the socket did not take yet; 0 for none.
    pending: usize,
}

impl Writer {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, message: vec![0; MESSAGE_LEN_MAX], pending: 0 }
    }

    /// Sends what waits; whether nothing waits any more.
    pub(super) fn flush(&mut self) -> bool {
        if self.pending == 0 {
            return true;
        }
        let message = &self.message[..self.pending];
        match send(&self.socket, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // Sent, or lost: then the guest is gone, which the reader finds out.
            _ => self.pending = 0,
        }
        true
    }
}

impl FramePort for Writer {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        let end = HEADER_LEN + len;
        if !self.flush() || end > self.message.len() {
            return None;
        }
        Some(&mut self.message[HEADER_LEN..end])
    }

    /// The stack is made without offloads, so the header is empty.
    fn commit(&mut self, len: usize, _meta: TxMeta) {
        self.message[..HEADER_LEN].fill(0);
        self.pending = HEADER_LEN + len;
        self.flush();
    }
}
