use super::*;
use crate::ip;
use proptest::prelude::*;

const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const TARGET: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Reads a message in a packet of this source, destination and hop limit.
fn read(message: &[u8], ends: [Ipv6Addr; 2], hop_limit: u8) -> Option<Message> {
    let bytes = crate::icmp::packet(ends.map(Into::into), hop_limit, message.to_vec()).unwrap();
    parse(&ip::parse_ipv6(&bytes).unwrap())
}

#[test]
fn questions_and_answers_survive_the_round_trip() {
    for mac in [None, Some(MAC)] {
        let expect = NeighborSolicitation { target: TARGET, source_mac: mac };
        let found = read(&solicit(TARGET, mac), [PEER, solicited_node(TARGET)], 255);
        assert_eq!(found, Some(Message::Solicitation(expect)));
        let expect = NeighborAdvertisement {
            target: TARGET,
            target_mac: mac,
            is_solicited: mac.is_some(),
            is_override: mac.is_none(),
        };
        let found = read(&advertise(expect), [PEER, TARGET], 255);
        assert_eq!(found, Some(Message::Neighbor(expect)));
    }
}

#[test]
fn groups_are_those_of_the_rfc() {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);
    assert_eq!(solicited_node(TARGET), group);
    assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
}

#[test]
fn what_may_have_passed_a_router_is_dropped() {
    let group = solicited_node(TARGET);
    assert_eq!(read(&solicit(TARGET, None), [PEER, group], 254), None);
    assert_eq!(read(&router(&[]), [PEER, ALL_NODES], 254), None);
    // Nor does a router speak from an address that is not the link's.
    assert_eq!(read(&router(&[]), [TARGET, ALL_NODES], 255), None);
    assert!(read(&router(&[]), [PEER, ALL_NODES], 255).is_some());
}

#[test]
fn messages_that_contradict_themselves_are_dropped() {
    let none = Ipv6Addr::UNSPECIFIED;
    let group = solicited_node(TARGET);
    // A probe for duplicates with an Ethernet address, or not to the group.
    assert_eq!(read(&solicit(TARGET, Some(MAC)), [none, group], 255), None);
    assert_eq!(read(&solicit(TARGET, None), [none, TARGET], 255), None);
    // An answer to all.
    let answer = NeighborAdvertisement {
        target: TARGET,
        target_mac: Some(MAC),
        is_solicited: true,
        is_override: true,
    };
    assert_eq!(read(&advertise(answer), [PEER, ALL_NODES], 255), None);
    // A group has no Ethernet address of a machine, and a machine none of a group.
    assert_eq!(read(&solicit(group, None), [PEER, group], 255), None);
    assert_eq!(read(&solicit(TARGET, Some([3; 6])), [PEER, group], 255), None);
    let mut coded = solicit(TARGET, None);
    coded[1] = 1;
    assert_eq!(read(&coded, [PEER, group], 255), None);
    for len in 8..24 {
        assert_eq!(read(&solicit(TARGET, None)[..len], [PEER, group], 255), None, "{len}");
    }
}

/// A router advertisement for half an hour with these options.
fn router(options: &[u8]) -> Vec<u8> {
    let head = [ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    [&head[..], options].concat()
}

fn prefix_option(prefix: Ipv6Addr, len: u8, flags: u8) -> Vec<u8> {
    let mut option = Vec::from([PREFIX, 4, len, flags, 0, 0, 1, 0, 0, 0, 0, 128, 0, 0, 0, 0]);
    option.extend(prefix.octets());
    option
}

#[test]
fn a_router_is_understood() {
    let dns = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x53);
    let options = [
        &[SOURCE_MAC, 1][..],
        &MAC,
        &[MTU, 1, 0, 0, 0, 0, 5, 0x78],
        &[99, 1, 0, 0, 0, 0, 0, 0],
        &prefix_option(TARGET, 64, 0xc0),
        &prefix_option(PEER, 129, 0xc0),
        &[DNS_SERVERS, 3, 0, 0, 0, 0, 0, 60],
        &dns.octets(),
    ]
    .concat();
    let expect = RouterAdvertisement {
        lifetime: 1800,
        mac: Some(MAC),
        mtu: Some(1400),
        prefixes: Vec::from([Prefix {
            prefix: TARGET,
            len: 64,
            is_on_link: true,
            is_autonomous: true,
            valid: 256,
            preferred: 128,
        }]),
        dns: Some((dns, 60)),
    };
    let found = read(&router(&options), [PEER, ALL_NODES], 255);
    assert_eq!(found, Some(Message::Advertisement(expect)));
}

#[test]
fn options_without_a_length_spoil_the_message() {
    for options in [&[MTU, 0, 0, 0, 0, 0, 0, 0][..], &[MTU, 2, 0, 0, 0, 0, 0, 0], &[MTU]] {
        assert_eq!(read(&router(options), [PEER, ALL_NODES], 255), None, "{options:?}");
    }
}

#[test]
fn the_prefixes_of_one_message_are_bounded() {
    let options = prefix_option(TARGET, 64, 0xc0).repeat(40);
    let Some(Message::Advertisement(found)) = read(&router(&options), [PEER, ALL_NODES], 255)
    else {
        panic!("no advertisement")
    };
    assert_eq!(found.prefixes.len(), PREFIXES_MAX);
}

proptest! {
    #[test]
    fn any_message_is_read_or_dropped(
        kind in 133u8..=137,
        body in prop::collection::vec(any::<u8>(), 2..150),
        is_to_all in any::<bool>(),
    ) {
        let message = [&[kind, 0][..], &body].concat();
        let to = if is_to_all { ALL_NODES } else { TARGET };
        read(&message, [PEER, to], 255);
    }

    #[test]
    fn any_options_are_read_or_dropped(
        options in prop::collection::vec(
            (prop_oneof![Just(1u8), Just(2), Just(3), Just(5), Just(25), any::<u8>()],
             0u8..6, prop::collection::vec(any::<u8>(), 0..50)), 0..6),
    ) {
        let bytes: Vec<u8> =
            options.into_iter().flat_map(|(kind, len, rest)| [&[kind, len][..], &rest].concat()).collect();
        read(&router(&bytes), [PEER, ALL_NODES], 255);
    }
}
