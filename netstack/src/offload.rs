//! Checksums and segmentation that the device does, or did, for us.
use crate::port::TxMeta;
use smoltcp::wire::{EthernetFrame, IpAddress, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_LEN: usize = EthernetFrame::<&[u8]>::header_len();

/// Offset of the checksum in a TCP header (RFC 9293, 3.1).
const TCP_CHECKSUM: u16 = 16;

/// Smallest TCP header, bytes.
const TCP_LEN: usize = 20;

/// Leaves the TCP checksum of `packet` to the device, and its segmentation if `gso_size` is not 0:
/// puts the sum of the pseudo header where the checksum belongs and says so in the metadata.
/// Packets other than TCP are complete already.
pub(crate) fn defer_to_device(packet: &mut [u8], gso_size: u16) -> TxMeta {
    let Some(tcp_start) = tcp_header(packet) else { return TxMeta::default() };
    let (ip, tcp) = packet.split_at_mut(tcp_start);
    let sum = pseudo_header_sum(ip, tcp.len());
    let checksum = usize::from(TCP_CHECKSUM);
    tcp[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    let tcp_len = usize::from(tcp[12] >> 4) * 4;
    let offset = |len: usize| u16::try_from(ETHERNET_LEN + len).unwrap_or(u16::MAX);
    TxMeta {
        needs_csum: true,
        csum_start: offset(tcp_start),
        csum_offset: TCP_CHECKSUM,
        gso_size,
        hdr_len: if gso_size == 0 { 0 } else { offset(tcp_start + tcp_len) },
        gso_is_ipv6: gso_size > 0 && ip[0] >> 4 == 6,
    }
}

/// Where the TCP header of an IP packet that we send starts, if that is what it is.
pub(crate) fn tcp_header(packet: &[u8]) -> Option<usize> {
    if packet.first()? >> 4 == 6 {
        let is_tcp = *packet.get(6)? == u8::from(IpProtocol::Tcp);
        return (is_tcp && packet.len() >= 40 + TCP_LEN).then_some(40);
    }
    let ip = Ipv4Packet::new_unchecked(packet.get(..20)?);
    let start = usize::from(ip.header_len());
    let is_tcp = ip.version() == 4 && ip.next_header() == IpProtocol::Tcp;
    (is_tcp && packet.len() >= start + TCP_LEN).then_some(start)
}

/// The folded, not inverted sum of the pseudo header of a TCP segment (RFC 9293, 3.1).
fn pseudo_header_sum(ip: &[u8], tcp_len: usize) -> u16 {
    let word = |at: usize| u64::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    let addresses: u64 = (if ip[0] >> 4 == 6 { 8..40 } else { 12..20 }).step_by(2).map(word).sum();
    let mut sum = addresses + u64::from(u8::from(IpProtocol::Tcp)) + tcp_len as u64;
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}

/// Whether the TCP or UDP checksum of a received packet is right. `payload` is that of the IP packet.
pub(crate) fn checksum_is_right(
    protocol: IpProtocol,
    source: IpAddress,
    destination: IpAddress,
    payload: &[u8],
) -> bool {
    match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(payload)
            .is_ok_and(|packet| packet.verify_checksum(&source, &destination)),
        IpProtocol::Udp => UdpPacket::new_checked(payload).is_ok_and(|packet| {
            // Over IPv6, a datagram must have one (RFC 8200, 8.1).
            packet.checksum() == 0 && matches!(source, IpAddress::Ipv4(_))
                || packet.verify_checksum(&source, &destination)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::net::Ipv4Addr;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber};

    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn packet(payload: &[u8]) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control: TcpControl::Psh,
            seq_number: TcpSeqNumber(3),
            ack_number: Some(TcpSeqNumber(4)),
            window_len: 5,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: SOURCE,
            dst_addr: DESTINATION,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut bytes = alloc::vec![0; 20 + tcp.buffer_len()];
        let ignored = ChecksumCapabilities::ignored();
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &ignored);
        let mut segment = TcpPacket::new_unchecked(&mut bytes[20..]);
        tcp.emit(&mut segment, &SOURCE.into(), &DESTINATION.into(), &ignored);
        bytes
    }

    /// What a device does with [`TxMeta::needs_csum`].
    fn complete(packet: &mut [u8], meta: TxMeta) {
        let start = usize::from(meta.csum_start) - ETHERNET_LEN;
        let mut sum: u32 = 0;
        for pair in packet[start..].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let at = start + usize::from(meta.csum_offset);
        packet[at..at + 2].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    }

    #[test]
    fn a_device_completes_the_deferred_checksum() {
        for payload in [&b""[..], b"odd", b"even"] {
            let mut packet = packet(payload);
            let meta = defer_to_device(&mut packet, 0);
            assert!(meta.needs_csum);
            complete(&mut packet, meta);
            let [source, destination] = [SOURCE.into(), DESTINATION.into()];
            assert!(checksum_is_right(IpProtocol::Tcp, source, destination, &packet[20..]));
            packet[24] ^= 1;
            assert!(!checksum_is_right(IpProtocol::Tcp, source, destination, &packet[20..]));
        }
    }

    #[test]
    fn segmentation_names_the_headers_that_repeat() {
        let meta = defer_to_device(&mut packet(&[0; 3000]), 1460);
        assert_eq!((meta.gso_size, meta.hdr_len), (1460, 54));
        assert_eq!((meta.csum_start, meta.csum_offset), (34, 16));
    }

    #[test]
    fn other_packets_are_left_alone() {
        let mut short = [0x45; 19];
        assert_eq!(defer_to_device(&mut short, 0), TxMeta::default());
        let mut udp = packet(b"");
        udp[9] = 17;
        assert_eq!(defer_to_device(&mut udp, 0), TxMeta::default());
    }
}
