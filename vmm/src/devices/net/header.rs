//! The header before every frame (virtio 1.2, 5.1.6): 12 bytes, the same on the ring, on a TAP with
//! `IFF_VNET_HDR` and on the wire to the user network.
use paravane_abi::device::feature;

/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 12;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_LEN: usize = 14;

/// Where `num_buffers` is in the header.
pub(super) const NUM_BUFFERS_OFFSET: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Checks the header of a frame of `frame_len` bytes (header not counted) that the guest sends, and
/// gives the header to pass on: fields that the guest may leave undefined are cleared.
///
/// # Errors
/// What is wrong with it, as a clause.
pub(super) fn checked(
    header: [u8; HEADER_LEN],
    frame_len: usize,
    features: u64,
) -> Result<[u8; HEADER_LEN], &'static str> {
    let [flags, gso_type, ..] = header;
    let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (header_len, gso_size, csum_start, csum_offset) = (half(2), half(4), half(6), half(8));
    if frame_len < ETHERNET_LEN {
        return Err("a frame is shorter than an Ethernet header");
    }
    let mut passed = [0; HEADER_LEN];
    let needs_csum = flags & NEEDS_CSUM != 0;
    if needs_csum {
        if features & feature::NET_CSUM == 0 {
            return Err("a frame asks for a checksum, which was not negotiated");
        }
        if csum_start + csum_offset + 2 > frame_len {
            return Err("the checksum of a frame lies outside the frame");
        }
        passed[0] = NEEDS_CSUM;
        passed[6..10].copy_from_slice(&header[6..10]);
    }
    match gso_type {
        GSO_NONE => return Ok(passed),
        GSO_TCPV4 if features & feature::NET_HOST_TSO4 != 0 => {}
        GSO_TCPV6 if features & feature::NET_HOST_TSO6 != 0 => {}
        _ => return Err("a frame asks for a segmentation that was not negotiated"),
    }
    if !needs_csum || gso_size == 0 || header_len > frame_len {
        return Err("a frame asks for segmentation, but its header does not say how");
    }
    passed[1..6].copy_from_slice(&header[1..6]);
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = feature::NET_CSUM | feature::NET_HOST_TSO4;

    /// flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
    fn header(flags: u8, gso_type: u8, halves: [u16; 4]) -> [u8; HEADER_LEN] {
        let mut header = [0xAA; HEADER_LEN];
        header[0] = flags;
        header[1] = gso_type;
        for (i, half) in halves.iter().enumerate() {
            header[2 + 2 * i..4 + 2 * i].copy_from_slice(&half.to_le_bytes());
        }
        header
    }

    #[test]
    fn what_is_undefined_is_cleared() {
        let plain = header(0, 0, [1, 2, 3, 4]);
        assert_eq!(checked(plain, 60, ALL), Ok([0; HEADER_LEN]));
        let segmented = header(1, 1, [54, 1460, 34, 16]);
        let passed = checked(segmented, 3000, ALL).unwrap();
        assert_eq!(passed[..10], segmented[..10]);
        assert_eq!(passed[10..], [0, 0]);
        let segmented = header(1, 4, [74, 1440, 54, 16]);
        let passed = checked(segmented, 3000, ALL | feature::NET_HOST_TSO6).unwrap();
        assert_eq!(passed[..10], segmented[..10]);
    }

    #[test]
    fn each_rule_refuses() {
        let check = |header, frame_len, features| {
            assert!(checked(header, frame_len, features).is_err(), "{header:?}");
        };
        check(header(0, 0, [0; 4]), 13, ALL);
        check(header(1, 0, [0, 0, 34, 16]), 60, feature::NET_HOST_TSO4);
        check(header(1, 0, [0, 0, 34, 25]), 60, ALL);
        check(header(1, 0, [0, 0, 0xFFFF, 0xFFFF]), 60, ALL);
        check(header(1, 1, [54, 1460, 34, 16]), 3000, feature::NET_CSUM);
        check(header(1, 4, [54, 1460, 34, 16]), 3000, ALL);
        check(header(1, 0x81, [54, 1460, 34, 16]), 3000, ALL);
        check(header(0, 1, [54, 1460, 34, 16]), 3000, ALL);
        check(header(1, 1, [54, 0, 34, 16]), 3000, ALL);
        check(header(1, 1, [3001, 1460, 34, 16]), 3000, ALL);
    }
}
