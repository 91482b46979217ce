//! Checksums (RFC 1071).
use smoltcp::wire::{EthernetFrame, IpAddress, IpProtocol, TcpPacket, UdpPacket};

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_LEN: usize = EthernetFrame::<&[u8]>::header_len();

/// Offset of the checksum in a TCP header (RFC 9293, 3.1).
pub(crate) const TCP_CHECKSUM: usize = 16;

/// The sum of 16-bit words, in pieces of any length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: u64,
    /// An odd number of bytes was added: the next one is the low half of a word.
    is_odd: bool,
}

impl Sum {
    /// The sum of the pseudo header of an upper layer's packet (RFC 9293, 3.1; RFC 8200, 8.1).
    pub(crate) fn pseudo_header(
        source: &IpAddress,
        destination: &IpAddress,
        protocol: IpProtocol,
        len: u32,
    ) -> Self {
        let mut sum = Self::default();
        for address in [source, destination] {
            match address {
                IpAddress::Ipv4(address) => sum.add(&address.octets()),
                IpAddress::Ipv6(address) => sum.add(&address.octets()),
            }
        }
        sum.sum += u64::from(u8::from(protocol)) + u64::from(len);
        sum
    }

    /// Adds `bytes` behind what was added before.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.is_odd
            && let Some((first, rest)) = bytes.split_first()
        {
            self.sum += u64::from(*first);
            self.is_odd = false;
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<4>();
        // 2^32 words at most fit: more than any packet has.
        self.sum += words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum::<u64>();
        let (words, rest) = rest.as_chunks::<2>();
        self.sum += words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>();
        if let [last] = rest {
            self.sum += u64::from(*last) << 8;
            self.is_odd = true;
        }
    }

    /// The sum in 16 bits, not inverted.
    pub(crate) fn folded(self) -> u16 {
        let mut sum = self.sum;
        loop {
            match u16::try_from(sum) {
                Ok(folded) => return folded,
                Err(_) => sum = (sum & 0xffff) + (sum >> 16),
            }
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
    use core::net::Ipv4Addr;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sum_in_pieces_is_the_sum_of_the_words(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
        ) {
            let mut sum = Sum::default();
            pieces.iter().for_each(|piece| sum.add(piece));
            let all = pieces.concat();
            let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
            let plain: u64 = all.chunks(2).map(word).sum();
            prop_assert_eq!(u64::from(sum.folded()) % 0xffff, plain % 0xffff);
        }
    }

    #[test]
    fn a_checksum_makes_the_whole_right() {
        let [source, destination] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let [source, destination] = [source.into(), destination.into()];
        let mut segment = [0x50; 23];
        segment[16..18].fill(0);
        let mut sum = Sum::pseudo_header(&source, &destination, IpProtocol::Tcp, 23);
        sum.add(&segment);
        segment[16..18].copy_from_slice(&(!sum.folded()).to_be_bytes());
        assert!(checksum_is_right(IpProtocol::Tcp, source, destination, &segment));
        segment[22] ^= 1;
        assert!(!checksum_is_right(IpProtocol::Tcp, source, destination, &segment));
    }
}
