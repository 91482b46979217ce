//! Packets as the cases write and read them, without any help from the stack that is tested.
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Everyone.
pub(super) const BROADCAST: Mac = [0xff; 6];

/// EtherTypes.
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;

/// Protocols of IP.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_LEN: usize = 14;

/// Flags of TCP.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;

/// Operations of ARP.
pub(super) const ARP_REQUEST: u16 = 1;
pub(super) const ARP_REPLY: u16 = 2;

/// An Ethernet frame.
pub(super) fn ethernet(to: Mac, from: Mac, protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &protocol.to_be_bytes(), payload].concat()
}

/// The parts of an Ethernet frame: addresses, protocol, payload.
pub(super) fn split_ethernet(frame: &[u8]) -> Option<(Mac, Mac, u16, &[u8])> {
    let (to, rest) = frame.split_first_chunk::<6>()?;
    let (from, rest) = rest.split_first_chunk::<6>()?;
    let (protocol, payload) = rest.split_first_chunk::<2>()?;
    Some((*to, *from, u16::from_be_bytes(*protocol), payload))
}

/// An ARP packet (RFC 826): what it asks or says, and the ends that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arp {
    pub(super) operation: u16,
    pub(super) sender: (Mac, Ipv4Addr),
    pub(super) target: (Mac, Ipv4Addr),
}

impl Arp {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (sender, target) = (self.sender.1.octets(), self.target.1.octets());
        let operation = self.operation.to_be_bytes();
        let parts: [&[u8]; 6] =
            [&[0, 1, 8, 0, 6, 4], &operation, &self.sender.0, &sender, &self.target.0, &target];
        parts.concat()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mac = |at: usize| bytes.get(at..at + 6)?.try_into().ok();
        let address =
            |at: usize| Some(Ipv4Addr::from_octets(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            operation: u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?),
            sender: (mac(8)?, address(14)?),
            target: (mac(18)?, address(24)?),
        })
    }
}

/// The Internet checksum (RFC 1071) of pieces that all but the last have an even length.
pub(super) fn checksum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let mut sum: u64 =
        words.map(|w| u64::from(w[0]) << 8 | u64::from(*w.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// An IPv4 packet (RFC 791).
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) id: u16,
    /// Flags and offset, in units of 8 bytes.
    pub(super) fragment: u16,
    /// A multiple of 4 bytes.
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// More fragments follow.
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;

impl Packet {
    pub(super) fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        Self { from, to, protocol, ttl: 64, id: 0, fragment: 0, options: Vec::new(), payload }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let version_and_len = 0x40 | u8::try_from(header_len / 4).unwrap_or(15);
        let len = u16::try_from(header_len + self.payload.len()).unwrap_or(u16::MAX);
        let mut header = vec![version_and_len, 0];
        header.extend(len.to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.from.octets());
        header.extend(self.to.octets());
        header.extend(&self.options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend(&self.payload);
        header
    }

    /// Reads a packet; what is wrong with it is the guest's mistake.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let header_len = usize::from(bytes.first().context("an empty packet")? & 15) * 4;
        ensure!(bytes[0] >> 4 == 4 && header_len >= 20, "not an IPv4 header: {bytes:x?}");
        let header = bytes.get(..header_len).context("a short IPv4 header")?;
        ensure!(checksum(&[header]) == 0, "wrong checksum of an IPv4 header: {header:x?}");
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let payload = bytes.get(header_len..usize::from(word(2))).context("a short packet")?;
        Ok(Self {
            from: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
            to: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
            protocol: header[9],
            ttl: header[8],
            id: word(4),
            fragment: word(6),
            options: header[20..].to_vec(),
            payload: payload.to_vec(),
        })
    }
}

/// The sum that a segment has over a pseudo header of both ends' addresses and itself; 0 if it is in there
/// and right.
fn tcp_checksum(from: &[u8], to: &[u8], bytes: &[u8]) -> u16 {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    checksum(&[from, to, &[0, TCP], &len, bytes])
}

/// Reads the segment in an IPv6 packet without extension headers (RFC 8200, 3).
pub(super) fn segment_in_ipv6(bytes: &[u8]) -> Result<Segment> {
    let (header, rest) = bytes.split_at_checked(40).context("a short IPv6 header")?;
    ensure!(header[0] >> 4 == 6 && header[6] == TCP, "not TCP in IPv6: {header:x?}");
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..len).context("a short IPv6 packet")?;
    Segment::parse_between(&header[8..24], &header[24..40], payload)
}

/// A UDP datagram (RFC 768), without a checksum.
pub(super) fn datagram(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

/// An ICMP message (RFC 792).
pub(super) fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, payload].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A TCP segment (RFC 9293, 3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) urgent: u16,
    /// Filled up to a multiple of 4 bytes.
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Segment {
    pub(super) fn bytes(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let data_offset = u8::try_from(5 + options.len() / 4).unwrap_or(15) << 4;
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([data_offset, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.payload);
        let sum = tcp_checksum(&from.octets(), &to.octets(), &bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads the segment in a packet; what is wrong with it is the guest's mistake.
    pub(super) fn parse(packet: &Packet) -> Result<Self> {
        Self::parse_between(&packet.from.octets(), &packet.to.octets(), &packet.payload)
    }

    fn parse_between(from: &[u8], to: &[u8], bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() >= 20, "a short segment: {bytes:x?}");
        let sum = tcp_checksum(from, to, bytes);
        ensure!(sum == 0, "wrong checksum of a segment of {} bytes", bytes.len());
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        let header_len = usize::from(bytes[12] >> 4) * 4;
        Ok(Self {
            from: word(0),
            to: word(2),
            seq: long(4),
            ack: long(8),
            flags: bytes[13],
            window: word(14),
            urgent: word(18),
            options: bytes.get(20..header_len).context("wrong data offset")?.to_vec(),
            payload: bytes.get(header_len..).context("wrong data offset")?.to_vec(),
        })
    }

    /// Whether it has all the flags.
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// What it takes of the sequence space.
    pub(super) fn len(&self) -> u32 {
        let flags = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX) + flags
    }

    /// The value of an option, if it is there.
    pub(super) fn option(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = &self.options[..];
        loop {
            rest = match *rest {
                [0, ..] | [] => return None,
                [1, ..] => &rest[1..],
                [kind, len, ..] => {
                    let option = rest.get(..usize::from(len)).filter(|o| o.len() >= 2)?;
                    if kind == wanted {
                        return Some(&option[2..]);
                    }
                    &rest[option.len()..]
                }
                _ => return None,
            }
        }
    }
}

/// Options of TCP: kinds.
pub(super) const MSS: u8 = 2;
pub(super) const WINDOW_SCALE: u8 = 3;

/// The option that announces the largest segment.
pub(super) fn mss(len: u16) -> Vec<u8> {
    [&[MSS, 4][..], &len.to_be_bytes()].concat()
}

/// The option that offers to scale windows, at a place that is a multiple of 4 bytes.
pub(super) fn window_scale(shift: u8) -> Vec<u8> {
    vec![1, WINDOW_SCALE, 3, shift]
}
