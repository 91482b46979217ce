use super::*;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;

const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// An IPv6 packet whose payload, extension headers included, starts with the header `first`.
fn packet(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = alloc::vec![0; IPV6_LEN + payload.len()];
    let ends = [A.into(), B.into()];
    emit_header(&mut bytes, ends, (first.into(), 64), payload.len()).unwrap();
    bytes[IPV6_LEN..].copy_from_slice(payload);
    bytes
}

/// An extension header of 8 bytes in front of `next`.
fn extension(next: u8, rest: [u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = rest;
    [next, 0, a, b, c, d, e, f]
}

const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const DESTINATION: u8 = 60;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;

fn refusal(first: u8, payload: &[u8]) -> Refusal {
    parse_ipv6(&packet(first, payload)).unwrap_err().0
}

#[test]
fn headers_of_both_families_are_read_as_they_are_written() {
    let four = [Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into()];
    let mut bytes = [0; 24];
    emit_header(&mut bytes, four, (IpProtocol::Tcp, 7), 4).unwrap();
    bytes[20..].copy_from_slice(b"data");
    let padded = [&bytes[..], &[9; 6]].concat();
    let parsed = parse_ipv4(&padded).unwrap();
    assert_eq!((parsed.source, parsed.destination, parsed.hop_limit), (four[0], four[1], 7));
    assert_eq!((parsed.bytes, parsed.payload), (&bytes[..], &b"data"[..]));

    let bytes = packet(TCP, b"data");
    let padded = [&bytes[..], &[9; 6]].concat();
    let parsed = parse_ipv6(&padded).unwrap();
    assert_eq!((parsed.source, parsed.destination, parsed.hop_limit), (A.into(), B.into(), 64));
    assert_eq!((parsed.bytes, parsed.payload), (&bytes[..], &b"data"[..]));
}

#[test]
fn addresses_of_two_families_make_no_packet() {
    let mixed = [Ipv4Addr::LOCALHOST.into(), B.into()];
    assert_eq!(emit_header(&mut [0; 40], mixed, (IpProtocol::Tcp, 64), 0), None);
    assert_eq!(emit_header(&mut [0; 39], [A.into(), B.into()], (IpProtocol::Tcp, 64), 0), None);
}

#[test]
fn damaged_headers_and_fragments_of_ipv4_are_dropped() {
    let four = [Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into()];
    let mut bytes = [0; 24];
    emit_header(&mut bytes, four, (IpProtocol::Tcp, 7), 4).unwrap();
    for at in 0..20 {
        let mut damaged = bytes;
        damaged[at] ^= 0x10;
        assert_eq!(parse_ipv4(&damaged), None, "byte {at}");
    }
    let mut fragment = bytes;
    fragment[6] = 0x20;
    let sum = !checksum::data(&{
        let mut header = fragment[..20].to_vec();
        header[10..12].fill(0);
        header
    });
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse_ipv4(&fragment), None);
}

#[test]
fn extension_headers_are_skipped() {
    let chain = [
        extension(DESTINATION, PADDING),
        extension(ROUTING, PADDING),
        // A route of an unknown kind that has been travelled.
        extension(FRAGMENT, [77, 0, 0, 0, 0, 0]),
        // An atomic fragment.
        extension(TCP, [0, 0, 1, 2, 3, 4]),
    ]
    .concat();
    let bytes = packet(HOP_BY_HOP, &[&chain[..], b"data"].concat());
    let parsed = parse_ipv6(&bytes).unwrap();
    assert_eq!((parsed.protocol, parsed.payload), (IpProtocol::Tcp, &b"data"[..]));
    assert_eq!(parsed.bytes, bytes);
}

#[test]
fn what_must_not_be_skipped_is_refused() {
    let next_header = |pointer| Refusal::ParameterProblem { code: PROBLEM_NEXT_HEADER, pointer };
    let twice = [extension(HOP_BY_HOP, PADDING), extension(TCP, PADDING)].concat();
    assert_eq!(refusal(HOP_BY_HOP, &twice), next_header(40));
    let route = extension(TCP, [0, 1, 0, 0, 0, 0]);
    let header_field = Refusal::ParameterProblem { code: PROBLEM_HEADER_FIELD, pointer: 42 };
    assert_eq!(refusal(ROUTING, &route), header_field);
    for rest in [[0, 1, 0, 0, 0, 0], [0, 8, 0, 0, 0, 0]] {
        assert_eq!(refusal(FRAGMENT, &extension(TCP, rest)), Refusal::Silent);
    }
    assert_eq!(refusal(59, b"none"), Refusal::Silent);
}

#[test]
fn unknown_options_say_what_is_to_be_done() {
    let check = |kind: u8, expect| {
        let bytes = packet(DESTINATION, &extension(TCP, [1, 0, kind, 2, 0, 0]));
        assert_eq!(parse_ipv6(&bytes).err().map(|(refusal, _)| refusal), expect, "{kind:#x}");
    };
    let problem = Refusal::ParameterProblem { code: PROBLEM_OPTION, pointer: 44 };
    check(0x1e, None);
    check(0x5e, Some(Refusal::Silent));
    check(0x9e, Some(problem));
    check(0xde, Some(problem));
}

#[test]
fn a_chain_without_end_is_dropped() {
    let chain = |len: usize| {
        let ends = [&extension(TCP, PADDING)[..], b"data"].concat();
        [&extension(DESTINATION, PADDING).repeat(len - 1)[..], &ends].concat()
    };
    assert!(parse_ipv6(&packet(DESTINATION, &chain(EXTENSIONS_MAX))).is_ok());
    assert_eq!(refusal(DESTINATION, &chain(EXTENSIONS_MAX + 1)), Refusal::Silent);
    // A header that leads to itself runs over the end.
    assert_eq!(refusal(DESTINATION, &[DESTINATION, 255, 0, 0, 0, 0, 0, 0]), Refusal::Silent);
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_ipv4(&bytes);
        let _ = parse_ipv6(&bytes);
    }

    #[test]
    fn any_extensions_are_parsed_or_refused(
        first in prop_oneof![Just(0u8), Just(43), Just(44), Just(60), any::<u8>()],
        payload in prop::collection::vec(
            prop_oneof![Just(0u8), Just(43), Just(44), Just(60), Just(1), any::<u8>()], 0..120),
    ) {
        let bytes = packet(first, &payload);
        if let Ok(parsed) = parse_ipv6(&bytes) {
            prop_assert!(bytes.ends_with(parsed.payload));
        }
    }
}
