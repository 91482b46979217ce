//! IP headers of both families: from bytes to a parsed packet, and back.
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, checksum,
};

/// Bytes of an IPv6 header (RFC 8200, 3).
pub(crate) const IPV6_LEN: usize = 40;

/// Bytes of an IPv4 header without options, the only one that is sent here (RFC 791, 3.1).
pub(crate) const IPV4_LEN: usize = 20;

/// Hop limit of what is sent to anyone (RFC 1700).
pub(crate) const HOP_LIMIT: u8 = 64;

/// Most extension headers that are followed; more are nothing that anybody sends in earnest.
const EXTENSIONS_MAX: usize = 8;

/// A received IP packet, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) source: IpAddress,
    pub(crate) destination: IpAddress,
    /// What `payload` is: the protocol behind all extension headers.
    pub(crate) protocol: IpProtocol,
    pub(crate) hop_limit: u8,
    /// The whole packet, without what pads the frame behind it.
    pub(crate) bytes: &'a [u8],
    /// What lies behind all headers of IP.
    pub(crate) payload: &'a [u8],
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed, damaged or a fragment: dropped without a word.
    Silent,
    /// The sender is to be told of the field at byte `pointer` (RFC 4443, 3.4).
    ParameterProblem { code: u8, pointer: usize },
}

/// Codes of an ICMPv6 parameter problem (RFC 4443, 3.4).
pub(crate) const PROBLEM_HEADER_FIELD: u8 = 0;
pub(crate) const PROBLEM_NEXT_HEADER: u8 = 1;
pub(crate) const PROBLEM_OPTION: u8 = 2;

/// Reads an IPv4 packet. Fragments are not put together: every protocol that is spoken here keeps its
/// packets within the path MTU.
pub(crate) fn parse_ipv4(payload: &[u8]) -> Option<Packet<'_>> {
    let header = Ipv4Packet::new_checked(payload).ok()?;
    let is_fragment = header.more_frags() || header.frag_offset() != 0;
    if header.version() != 4 || is_fragment || !header.verify_checksum() {
        return None;
    }
    let bytes = payload.get(..usize::from(header.total_len()))?;
    Some(Packet {
        source: header.src_addr().into(),
        destination: header.dst_addr().into(),
        protocol: header.next_header(),
        hop_limit: header.hop_limit(),
        bytes,
        payload: bytes.get(usize::from(header.header_len())..)?,
    })
}

/// Reads an IPv6 packet, and its extension headers (RFC 8200, 4).
pub(crate) fn parse_ipv6(payload: &[u8]) -> Result<Packet<'_>, (Refusal, Option<Packet<'_>>)> {
    const SILENT: (Refusal, Option<Packet<'_>>) = (Refusal::Silent, None);
    let header = Ipv6Packet::new_checked(payload).map_err(|_| SILENT)?;
    if header.version() != 6 {
        return Err(SILENT);
    }
    let bytes = payload.get(..header.total_len()).ok_or(SILENT)?;
    let packet = Packet {
        source: header.src_addr().into(),
        destination: header.dst_addr().into(),
        protocol: header.next_header(),
        hop_limit: header.hop_limit(),
        bytes,
        payload: &bytes[IPV6_LEN..],
    };
    match skip_extensions(bytes, header.next_header()) {
        Ok((protocol, start)) => Ok(Packet { protocol, payload: &bytes[start..], ..packet }),
        Err(refusal) => Err((refusal, Some(packet))),
    }
}

/// The protocol behind the extension headers, and where it starts.
fn skip_extensions(bytes: &[u8], first: IpProtocol) -> Result<(IpProtocol, usize), Refusal> {
    let (mut protocol, mut start) = (first, IPV6_LEN);
    // Where the number of `protocol` stands.
    let mut named_at = 6;
    for _ in 0..=EXTENSIONS_MAX {
        let len = match protocol {
            IpProtocol::HopByHop if start != IPV6_LEN => {
                return Err(Refusal::ParameterProblem {
                    code: PROBLEM_NEXT_HEADER,
                    pointer: named_at,
                });
            }
            IpProtocol::HopByHop | IpProtocol::Ipv6Opts => {
                let header = variable_header(bytes, start).ok_or(Refusal::Silent)?;
                check_options(&header[2..], start + 2)?;
                header.len()
            }
            IpProtocol::Ipv6Route => {
                let header = variable_header(bytes, start).ok_or(Refusal::Silent)?;
                // A route that has been travelled is of no concern; none is followed (RFC 5095).
                if header[3] != 0 {
                    let code = PROBLEM_HEADER_FIELD;
                    return Err(Refusal::ParameterProblem { code, pointer: start + 2 });
                }
                header.len()
            }
            IpProtocol::Ipv6Frag => {
                // Atomic fragments are whole packets (RFC 6946); others are not put together.
                let header = bytes.get(start..start + 8).ok_or(Refusal::Silent)?;
                let is_whole = u16::from_be_bytes([header[2], header[3]]) & !0b110 == 0;
                if !is_whole {
                    return Err(Refusal::Silent);
                }
                header.len()
            }
            IpProtocol::Ipv6NoNxt => return Err(Refusal::Silent),
            _ => return Ok((protocol, start)),
        };
        (protocol, named_at) = (bytes[start].into(), start);
        start += len;
    }
    Err(Refusal::Silent)
}

/// An extension header that says its own length, in units of 8 bytes beyond the first.
fn variable_header(bytes: &[u8], start: usize) -> Option<&[u8]> {
    let len = 8 + 8 * usize::from(*bytes.get(start + 1)?);
    bytes.get(start..start + len)
}

/// Looks through options, the first of which is at byte `pointer` of the packet, for one that forbids
/// to skip it (RFC 8200, 4.2). None is understood but padding.
fn check_options(mut options: &[u8], mut pointer: usize) -> Result<(), Refusal> {
    const PAD1: u8 = 0;
    while let Some(&kind) = options.first() {
        let len = match options.get(1) {
            _ if kind == PAD1 => 1,
            Some(&len) => 2 + usize::from(len),
            None => return Err(Refusal::Silent),
        };
        match kind >> 6 {
            0b00 => {}
            0b01 => return Err(Refusal::Silent),
            _ => return Err(Refusal::ParameterProblem { code: PROBLEM_OPTION, pointer }),
        }
        options = options.get(len..).ok_or(Refusal::Silent)?;
        pointer += len;
    }
    Ok(())
}

/// Writes an IP header for `payload_len` bytes of `protocol` to the front of `packet`; returns its
/// length. `None` for addresses of two families and for lengths beyond what IP can say.
pub(crate) fn emit_header(
    packet: &mut [u8],
    ends: [IpAddress; 2],
    protocol: (IpProtocol, u8),
    payload_len: usize,
) -> Option<usize> {
    let len = header_len(ends[0]);
    let fits = packet.len() == len + payload_len;
    let header = packet.get_mut(..len).filter(|_| fits)?;
    emit_header_alone(header, ends, protocol, payload_len)?;
    Some(len)
}

/// As [`emit_header`], to a slice that has room for the header alone.
pub(crate) fn emit_header_alone(
    packet: &mut [u8],
    [source, destination]: [IpAddress; 2],
    (protocol, hop_limit): (IpProtocol, u8),
    payload_len: usize,
) -> Option<()> {
    let header = match (source, destination) {
        (IpAddress::Ipv4(src_addr), IpAddress::Ipv4(dst_addr)) => IpRepr::Ipv4(Ipv4Repr {
            src_addr,
            dst_addr,
            next_header: protocol,
            payload_len,
            hop_limit,
        }),
        (IpAddress::Ipv6(src_addr), IpAddress::Ipv6(dst_addr)) => IpRepr::Ipv6(Ipv6Repr {
            src_addr,
            dst_addr,
            next_header: protocol,
            payload_len,
            hop_limit,
        }),
        _ => return None,
    };
    let fits = u16::try_from(packet.len() + payload_len).is_ok();
    fits.then(|| header.emit(packet, &ChecksumCapabilities::default()))
}

/// The folded, not inverted sum of the pseudo header and `payload` (RFC 1071, RFC 8200, 8.1).
pub(crate) fn payload_sum(
    [source, destination]: [IpAddress; 2],
    protocol: IpProtocol,
    payload: &[u8],
) -> u16 {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    checksum::combine(&[
        checksum::pseudo_header(&source, &destination, protocol, len),
        checksum::data(payload),
    ])
}

/// Bytes of the IP header that packets to `address` get.
pub(crate) fn header_len(address: IpAddress) -> usize {
    match address {
        IpAddress::Ipv4(_) => IPV4_LEN,
        IpAddress::Ipv6(_) => IPV6_LEN,
    }
}

#[cfg(test)]
#[path = "ip/tests.rs"]
mod tests;
