//! The header in front of each frame (virtio 1.2, 5.1.6).
use super::NetFault;

/// Bytes of the header. With `VERSION_1` it always has the field `num_buffers`.
pub(super) const HEADER_LEN: usize = 12;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// What is known of the checksum of a frame's transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the frame, and was not looked at.
    #[default]
    Complete,
    /// It was verified: the receiver need not. Received frames only.
    Valid,
    /// It is not computed yet: the field at `start + offset` holds the sum of the pseudo-header. A
    /// receiver takes the frame as verified, as it comes from the same host; a sender asks for the
    /// sum over everything from `start` to be put there.
    Partial {
        /// First byte that is summed, counted from the beginning of the frame.
        start: u16,
        /// Where the checksum is, counted from `start`.
        offset: u16,
    },
}

/// That a frame is a TCP segment larger than the wire takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// Payload bytes of each segment that it is made of, or to be cut into.
    pub segment_size: u16,
    /// Bytes of the Ethernet, IP and TCP headers. A hint on received frames.
    pub header_len: u16,
    /// The segment is one of TCPv6.
    pub is_ipv6: bool,
}

/// What goes with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// The state of the transport checksum.
    pub checksum: Checksum,
    /// Segmentation offload.
    pub segmentation: Option<Segmentation>,
}

/// A received header, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) meta: FrameMeta,
    pub(super) buffer_count: u16,
}

fn u16_at(bytes: &[u8; HEADER_LEN], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

impl Header {
    /// Parses the header at the beginning of a received buffer.
    pub(super) fn parse(buffer: &[u8]) -> Result<Self, NetFault> {
        let bytes = buffer.first_chunk::<HEADER_LEN>().ok_or(NetFault::Short)?;
        let checksum = match bytes[0] {
            flags if flags & FLAG_NEEDS_CSUM != 0 => {
                Checksum::Partial { start: u16_at(bytes, 6), offset: u16_at(bytes, 8) }
            }
            flags if flags & FLAG_DATA_VALID != 0 => Checksum::Valid,
            _ => Checksum::Complete,
        };
        let segmentation = match bytes[1] & !GSO_ECN {
            GSO_NONE => None,
            kind @ (GSO_TCPV4 | GSO_TCPV6) => Some(Segmentation {
                segment_size: u16_at(bytes, 4),
                header_len: u16_at(bytes, 2),
                is_ipv6: kind == GSO_TCPV6,
            }),
            other => return Err(NetFault::Segmentation(other)),
        };
        let meta = FrameMeta { checksum, segmentation };
        Ok(Self { meta, buffer_count: u16_at(bytes, 10) })
    }
}

impl FrameMeta {
    /// The header of a frame to send. `num_buffers` is 0 there (5.1.6.2).
    pub(super) fn to_header(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        if let Checksum::Partial { start, offset } = self.checksum {
            bytes[0] = FLAG_NEEDS_CSUM;
            bytes[6..8].copy_from_slice(&start.to_le_bytes());
            bytes[8..10].copy_from_slice(&offset.to_le_bytes());
        }
        if let Some(Segmentation { segment_size, header_len, is_ipv6 }) = self.segmentation {
            bytes[1] = if is_ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
            bytes[2..4].copy_from_slice(&header_len.to_le_bytes());
            bytes[4..6].copy_from_slice(&segment_size.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_received() {
        let check = |meta: FrameMeta| {
            let header = Header::parse(&meta.to_header()).unwrap();
            assert_eq!(header, Header { meta, buffer_count: 0 });
        };
        check(FrameMeta::default());
        let checksum = Checksum::Partial { start: 34, offset: 16 };
        check(FrameMeta { checksum, segmentation: None });
        for is_ipv6 in [false, true] {
            let segmentation = Segmentation { segment_size: 1448, header_len: 66, is_ipv6 };
            check(FrameMeta { checksum, segmentation: Some(segmentation) });
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let checksum = Checksum::Partial { start: 0x0122, offset: 0x0310 };
        for (is_ipv6, kind) in [(false, 1), (true, 4)] {
            let segmentation =
                Some(Segmentation { segment_size: 0x05a8, header_len: 0x0442, is_ipv6 });
            let bytes = FrameMeta { checksum, segmentation }.to_header();
            assert_eq!(bytes, [1, kind, 0x42, 4, 0xa8, 5, 0x22, 1, 0x10, 3, 0, 0]);
        }
    }

    #[test]
    fn verified_checksums_and_ecn_are_understood() {
        let header = Header::parse(&[2, 0x81, 54, 0, 100, 0, 0, 0, 0, 0, 3, 0]).unwrap();
        assert_eq!(header.meta.checksum, Checksum::Valid);
        assert_eq!(
            header.meta.segmentation,
            Some(Segmentation { segment_size: 100, header_len: 54, is_ipv6: false })
        );
        assert_eq!(header.buffer_count, 3);
    }

    #[test]
    fn short_or_unknown_headers_are_refused() {
        assert_eq!(Header::parse(&[0; 11]), Err(NetFault::Short));
        let mut bytes = [0; HEADER_LEN];
        bytes[1] = 5;
        assert_eq!(Header::parse(&bytes), Err(NetFault::Segmentation(5)));
    }
}
