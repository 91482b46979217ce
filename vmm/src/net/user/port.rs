//! The stack's port to the wire: frames behind virtio-net headers (virtio 1.2, 5.1.6).
use crate::net::wire::{Consumer, HEADER_LEN, MESSAGE_LEN_MAX, Producer};
use paravane_netstack::{FramePort, RxMeta, TxMeta};
use std::io;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is left to whoever takes the frame, which never was on a
/// wire that could have damaged it.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCPV4: u8 = 1;

/// Frames from the guest.
#[derive(Debug)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    pub(super) fn new() -> Self {
        Self(vec![0; MESSAGE_LEN_MAX])
    }

    /// The next frame, if there is one. Of its header, only the flag above is of interest: checksums
    /// that are not filled in are none to check, and what a large segment was to be cut into does not
    /// matter to us, who take it whole. So there is nothing in a header that a guest could do harm with.
    ///
    /// # Errors
    /// The guest has broken the wire.
    pub(super) fn next(&mut self, incoming: &mut Consumer) -> io::Result<Option<(&[u8], RxMeta)>> {
        let Some(len) = incoming.receive(&mut self.0)? else {
            return Ok(None);
        };
        // A message without even a header makes an empty frame, which the stack drops.
        let frame = self.0[..len].get(HEADER_LEN..).unwrap_or_default();
        Ok(Some((frame, RxMeta { csum_valid: self.0[0] & NEEDS_CSUM != 0 })))
    }
}

/// The message to the guest that is being written.
#[derive(Debug)]
pub(super) struct Outbox(Vec<u8>);

impl Outbox {
    pub(super) fn new() -> Self {
        Self(vec![0; MESSAGE_LEN_MAX])
    }

    /// The port for frames to the guest.
    pub(super) fn port<'a>(&'a mut self, outgoing: &'a mut Producer) -> Port<'a> {
        Port { outgoing, message: &mut self.0 }
    }
}

/// Frames to the guest.
#[derive(Debug)]
pub(super) struct Port<'a> {
    outgoing: &'a mut Producer,
    message: &'a mut [u8],
}

impl FramePort for Port<'_> {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        let end = HEADER_LEN + len;
        self.outgoing.has_room(end).then(|| self.message.get_mut(HEADER_LEN..end)).flatten()
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        self.message[..HEADER_LEN].copy_from_slice(&header(meta));
        // There is room: `buffer` was asked, and only the guest can have changed anything, by reading.
        self.outgoing.send(&self.message[..HEADER_LEN + len]);
    }
}

fn header(meta: TxMeta) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = if meta.needs_csum { NEEDS_CSUM } else { 0 };
    header[1] = if meta.gso_size > 0 { GSO_TCPV4 } else { 0 };
    let halves = [meta.hdr_len, meta.gso_size, meta.csum_start, meta.csum_offset];
    for (field, value) in header[2..10].chunks_exact_mut(2).zip(halves) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    header
}
