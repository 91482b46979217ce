//! The border to whoever moves frames: a virtio ring, a TAP, a test link.
use bytes::Bytes;

/// Where the stack writes Ethernet frames, without a copy in between.
pub trait FramePort {
    /// A buffer for a frame of up to `len` bytes, or `None` if there is no room now; the stack then
    /// keeps what it has to say and tries again in the next poll. Asking again without
    /// [`commit`](Self::commit) gives the same room again, and where `len` bytes fitted, fewer fit.
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Sends the first `len` bytes of the buffer that was handed out last.
    fn commit(&mut self, len: usize, meta: TxMeta);

    /// Sends a frame of `head`, which has all its headers, and the pieces of `body` behind it. A port
    /// that can lets its device read the pieces where they are, and keeps them until that is done;
    /// this one copies them. Whether there was room; without, nothing is sent.
    fn send(&mut self, head: &[u8], body: &[Bytes], meta: TxMeta) -> bool {
        let len = head.len() + body.iter().map(Bytes::len).sum::<usize>();
        let Some(buffer) = self.buffer(len) else { return false };
        let mut rest = buffer;
        for piece in core::iter::once(head).chain(body.iter().map(|piece| &piece[..])) {
            let (front, behind) = rest.split_at_mut(piece.len());
            front.copy_from_slice(piece);
            rest = behind;
        }
        self.commit(len, meta);
        true
    }
}

/// What the device is to do to a frame before it goes on the wire. Offsets count from the start of
/// the Ethernet header, as those of the virtio-net header do (virtio 1.2, 5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxMeta {
    /// The checksum field holds the sum of the pseudo header only; the device completes it.
    pub needs_csum: bool,
    /// Where summing starts, bytes.
    pub csum_start: u16,
    /// Where the checksum lies, bytes from `csum_start`.
    pub csum_offset: u16,
    /// Payload bytes of each segment that the device is to cut the TCP payload into; 0 for none.
    pub gso_size: u16,
    /// Bytes of all headers, repeated in each segment; 0 without `gso_size`.
    pub hdr_len: u16,
    /// The packet to cut is one of IPv6.
    pub gso_is_ipv6: bool,
}

/// What the device says about a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxMeta {
    /// TCP and UDP checksums are known to be right, or are not filled in because the frame never
    /// left the host.
    pub csum_valid: bool,
}
