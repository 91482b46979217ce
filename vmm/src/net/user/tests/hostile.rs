//! Frames that no sane guest sends.
use super::super::engine::Engine;
use super::super::{Addresses, Protocol};
use super::published;
use crate::net::wire::{self, End, Takes};
use proptest::prelude::*;
use smoltcp::wire::Ipv4Packet;
use std::net::Ipv4Addr;

/// The virtio-net header that says: do not look at the checksum.
const HEADER: [u8; 12] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const IPV4: [u8; 2] = [8, 0];

/// Destinations that lead nowhere outside of the network.
fn destination() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        Just(Addresses::default().gateway),
        Just(Addresses::default().guest),
        Just(Ipv4Addr::LOCALHOST),
        Just(Ipv4Addr::BROADCAST),
        Just(Ipv4Addr::new(10, 0, 2, 255)),
        Just(Ipv4Addr::new(224, 0, 0, 1)),
        Just(Ipv4Addr::UNSPECIFIED),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    // 53 would be passed on to the host's resolver.
    prop_oneof![Just(80_u16), Just(67), Just(68), 1024_u16..1030, any::<u16>()]
        .prop_filter("leads out", |&port| port != 53)
}

/// An IPv4 packet whose header is mostly right and whose content is anything.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let protocol = prop_oneof![4 => Just(6_u8), 4 => Just(17), 1 => Just(1), 1 => any::<u8>()];
    let source = prop_oneof![
        8 => Just(Addresses::default().guest),
        1 => any::<[u8; 4]>().prop_map(Ipv4Addr::from),
    ];
    let content = (port(), port(), prop::collection::vec(any::<u8>(), 0..80), 0_u8..64, 3_u8..7);
    let version = prop_oneof![8 => Just(0x45_u8), 1 => any::<u8>()];
    let len = prop_oneof![8 => Just(None), 1 => any::<u16>().prop_map(Some)];
    (version, protocol, source, destination(), content, len).prop_map(
        |(version, protocol, source, destination, (from, to, mut content, flags, offset), len)| {
            if protocol == 6 && content.len() >= 16 {
                content[8] = offset << 4;
                content[9] = flags;
            }
            let mut bytes = vec![0; 20];
            bytes[0] = version;
            bytes[8] = 64;
            bytes[9] = protocol;
            bytes[12..16].copy_from_slice(&source.octets());
            bytes[16..20].copy_from_slice(&destination.octets());
            bytes.extend(from.to_be_bytes());
            bytes.extend(to.to_be_bytes());
            bytes.extend(content);
            let len = len.unwrap_or(u16::try_from(bytes.len()).unwrap());
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            if version == 0x45 {
                Ipv4Packet::new_unchecked(&mut bytes[..]).fill_checksum();
            }
            bytes
        },
    )
}

/// Mostly one that says not to look at the checksum; else anything: segments of no size or a huge one,
/// checksums outside of the frame, kinds of offloads that nobody has.
fn header() -> impl Strategy<Value = [u8; 12]> {
    prop_oneof![
        4 => Just(HEADER),
        2 => any::<[u8; 12]>(),
        2 => any::<[u8; 10]>().prop_map(|rest| {
            let mut header = [1; 12];
            header[2..].copy_from_slice(&rest);
            header
        }),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let ip = packet().prop_map(|packet| (IPV4, packet));
    let arp = prop::collection::vec(any::<u8>(), 0..40).prop_map(|packet| ([8, 6], packet));
    let other = (any::<[u8; 2]>(), prop::collection::vec(any::<u8>(), 0..40));
    prop_oneof![8 => ip, 1 => arp, 1 => other].prop_map(|(kind, packet)| {
        [&[0xFF; 6][..], &[2, 0, 0, 0, 0, 0x15], &kind, &packet].concat()
    })
}

/// A wire whose guest has said what it takes: the guest's end and the network's.
fn attached() -> (End, End) {
    let (guests, ours) = wire::pair().unwrap();
    guests.attach(Takes { partial_checksums: true, large_segments: true });
    (guests, ours)
}

/// A guest that guesses what a client's connection will be called answers it before it was made.
#[test]
fn an_answer_before_the_question_is_dropped() {
    let (mut guests, ours) = attached();
    let port = published(Protocol::Tcp);
    let mut engine = Engine::new(Addresses::default(), &[port], ours).unwrap();
    let _client = std::net::TcpStream::connect(port.host).unwrap();
    engine.step().unwrap();
    let Addresses { guest, gateway, .. } = Addresses::default();
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend([guest.octets(), gateway.octets()].concat());
    packet.extend([0, 80, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
    let frame = [&[0xFF; 6][..], &[2, 0, 0, 0, 0, 0x15], &IPV4, &packet].concat();
    for _ in 0..2 {
        assert!(guests.outgoing.send(&[&HEADER[..], &frame].concat()));
        engine.step().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_frame_brings_the_network_down(
        frames in prop::collection::vec((header(), frame()), 1..100),
        cut in prop::collection::vec(any::<u8>(), 0..13),
    ) {
        let (mut guests, ours) = attached();
        let ports = [published(Protocol::Tcp), published(Protocol::Udp)];
        let mut engine = Engine::new(Addresses::default(), &ports, ours).unwrap();
        let _client = std::net::TcpStream::connect(ports[0].host).unwrap();
        for (header, frame) in &frames {
            assert!(guests.outgoing.send(&[&header[..], frame].concat()));
            prop_assert!(engine.step().is_ok());
        }
        assert!(guests.outgoing.send(&cut));
        prop_assert!(engine.step().is_ok());
    }
}
