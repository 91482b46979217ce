//! IPv6: addresses, neighbours, routers, and TCP and UDP over it.
use crate::link::{Faults, faults};
use crate::transfer::{exchange_with, offloading};
use crate::world::{
    CLIENT_MAC, SERVER_MAC, World, accept, client_config, no_context, server_config,
};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::task::Poll;
use paravane_netstack::{Addressing6, Config, Duration, Instant, Lease6, RxMeta, Stack, TcpError};
use proptest::prelude::*;

const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// What becomes of [`CLIENT_MAC`] and [`SERVER_MAC`].
const CLIENT_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x15);
const SERVER_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const SECOND: Duration = Duration::from_secs(1);

fn at6(address: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(address), port)
}

fn fixed(config: Config, address: Ipv6Addr) -> Config {
    let lease = Lease6 { address, prefix_len: 64, gateway: Some(SERVER6), dns: None };
    Config { addressing6: Addressing6::Static(lease), ..config }
}

fn automatic(config: Config) -> Config {
    Config { addressing6: Addressing6::Automatic, ..config }
}

fn world_with(adapt: impl Fn(Config) -> Config, seed: u64, faults: Faults) -> World {
    let client = adapt(fixed(client_config(), CLIENT6));
    let server = adapt(fixed(server_config(), SERVER6));
    World::with(client, server, seed, faults)
}

fn world() -> World {
    world_with(|config| config, 1, Faults::default())
}

/// A frame from the router with an IPv6 packet of this protocol and hop limit around `payload`; an
/// ICMPv6 message gets its checksum.
fn frame(ends: [Ipv6Addr; 2], (protocol, hop_limit): (u8, u8), payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let octets = ends.map(|end| end.octets()).concat();
    let mut payload = payload.to_vec();
    if protocol == 58 && payload.len() >= 4 {
        payload[2..4].fill(0);
        let pseudo = [&octets[..], &[0, 0], &len, &[0, 0, 0, 58], &payload].concat();
        let sum: u32 = pseudo
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        payload[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    let header = [0x60, 0, 0, 0, len[0], len[1], protocol, hop_limit];
    let ethernet = [&[0x33, 0x33, 0, 0, 0, 1][..], &ROUTER_MAC, &[0x86, 0xdd]].concat();
    [&ethernet[..], &header, &octets, &payload].concat()
}

/// An advertisement of the router's, for this prefix.
fn advertisement(prefix: Ipv6Addr) -> Vec<u8> {
    let head = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let mac = [&[1, 1][..], &ROUTER_MAC].concat();
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0x78];
    let prefix =
        [&[3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 7, 8, 0, 0, 0, 0][..], &prefix.octets()].concat();
    [&head[..], &mac, &mtu, &prefix].concat()
}

/// ICMPv6 messages that a stack sent, each with its packet's ends.
fn icmp_of(sent: &[(Vec<u8>, paravane_netstack::TxMeta)]) -> Vec<([Ipv6Addr; 2], Vec<u8>)> {
    let address = |bytes: &[u8]| Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap());
    sent.iter()
        .map(|(frame, _)| frame)
        .filter(|frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 58)
        .map(|f| ([address(&f[22..38]), address(&f[38..54])], f[54..].to_vec()))
        .collect()
}

#[test]
fn data_arrives_over_a_perfect_link() {
    exchange_with(world(), at6(SERVER6, 80), 1_000_000);
}

#[test]
fn data_arrives_by_link_local_addresses() {
    exchange_with(world(), at6(SERVER_LOCAL, 80), 10_000);
}

#[test]
fn data_arrives_with_offloads() {
    exchange_with(world_with(offloading, 1, Faults::default()), at6(SERVER6, 80), 3_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn data_arrives_over_links_with_faults(
        seed in any::<u64>(),
        faults in faults(),
        offload in any::<bool>(),
        len in 0usize..100_000,
    ) {
        let adapt = |config| if offload { offloading(config) } else { config };
        let mut world = world_with(adapt, seed, faults);
        // Damage to a probe must not look like a conflict.
        world.run_for(SECOND * 2);
        prop_assert_eq!(world.client.counters().addresses_lost, 0);
        exchange_with(world, at6(SERVER6, 80), len);
    }
}

#[test]
fn large_packets_say_that_they_are_of_ipv6() {
    let mut world = world_with(offloading, 1, Faults::default());
    world.to_server.record = Some(Vec::new());
    let listener = world.server.listen(80, 4).unwrap();
    let (near, _) = world.connected_to(listener, at6(SERVER6, 80));
    // What the first acknowledgements allow is soon more than one segment.
    for _ in 0..20 {
        crate::world::send(&mut world.client, near, &[0; 10_000]).unwrap();
        world.run_for(SECOND / 10);
    }
    let sent = world.to_server.record.take().unwrap();
    let (frame, meta) = sent.iter().find(|(_, meta)| meta.gso_size > 0).unwrap();
    assert!(meta.gso_is_ipv6 && frame.len() > 3000);
    assert_eq!((meta.gso_size, meta.csum_start, meta.csum_offset), (1428, 54, 16));
    assert_eq!(meta.hdr_len, 14 + 40 + 32);
}

#[test]
fn datagrams_and_refusals_come_back() {
    let mut world = world();
    world.to_client.record = Some(Vec::new());
    let inbox = world.server.udp_bind(Some(1000)).unwrap();
    let socket = world.client.udp_bind(Some(7)).unwrap();
    world.client.udp_send(socket, at6(SERVER6, 1000), b"there").unwrap();
    world.client.udp_send(socket, at6(SERVER6, 1001), b"nowhere").unwrap();
    world.run_for(SECOND);
    let Poll::Ready(Ok(datagram)) = world.server.udp_poll_recv(inbox, &mut no_context()) else {
        panic!("no datagram")
    };
    assert_eq!((datagram.remote, &datagram.data[..]), (at6(CLIENT6, 7), &b"there"[..]));
    let icmp = icmp_of(&world.to_client.record.take().unwrap());
    let refusals: Vec<_> = icmp.iter().filter(|(_, m)| m[..2] == [1, 4]).collect();
    let [(ends, refusal)] = refusals[..] else { panic!("{refusals:?}") };
    assert_eq!(*ends, [SERVER6, CLIENT6]);
    assert!(refusal.ends_with(b"nowhere"));
    let too_long = world.client.udp_send(socket, at6(SERVER6, 1000), &[0; 1453]);
    assert!(too_long.is_err());
}

#[test]
fn echo_requests_to_the_address_and_to_all_are_answered() {
    for to in [SERVER6, SERVER_LOCAL, ALL_NODES] {
        let mut world = world();
        world.run_for(SECOND * 2);
        world.to_client.record = Some(Vec::new());
        let echo = [&[128, 0, 0, 0, 0x12, 0x34, 0, 1][..], b"payload"].concat();
        world.to_server.inject(frame([ROUTER, to], (58, 64), &echo), RxMeta::default(), 0);
        world.run_for(SECOND);
        let icmp = icmp_of(&world.to_client.record.take().unwrap());
        let (ends, reply) = icmp.iter().find(|(_, m)| m[0] == 129).unwrap();
        assert_eq!(reply[4..], echo[4..]);
        assert_eq!(ends[0], if to == ALL_NODES { SERVER_LOCAL } else { to });
    }
}

#[test]
fn a_damaged_or_foreign_message_is_dropped() {
    let mut stack = Stack::new(fixed(server_config(), SERVER6), Instant::ZERO);
    let mut line = crate::link::Line::new(1, Faults::default());
    let echo = [128, 0, 0, 0, 0x12, 0x34, 0, 1];
    let mut feed = |frame: &[u8]| {
        let before = stack.counters().frames_dropped;
        stack.receive(Instant::ZERO, frame, RxMeta::default(), &mut line);
        stack.counters().frames_dropped - before
    };
    let good = frame([ROUTER, SERVER6], (58, 64), &echo);
    assert_eq!(feed(&good), 0);
    for at in 22..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        assert_eq!(feed(&damaged), 1, "byte {at}");
    }
    assert_eq!(feed(&frame([ROUTER, CLIENT6], (58, 64), &echo)), 1);
    for source in
        [ALL_NODES, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, "::ffff:1.2.3.4".parse().unwrap()]
    {
        assert_eq!(feed(&frame([source, SERVER6], (58, 64), &echo)), 1, "{source}");
    }
}

#[test]
fn the_later_of_two_machines_with_one_address_gives_it_up() {
    let mut world = world();
    world.run_for(SECOND * 5);
    world.client = Stack::new(fixed(client_config(), SERVER6), world.now);
    world.run_for(SECOND * 5);
    assert_eq!(world.client.take_conflict(), Some(SERVER6));
    assert_eq!(world.client.take_conflict(), None);
    assert!(world.client.addresses6().eq([CLIENT_LOCAL]));
    assert!(world.server.addresses6().any(|address| address == SERVER6));
    assert_eq!(world.server.counters().addresses_lost, 0);
    assert_eq!(world.client.counters().addresses_lost, 1);
}

#[test]
fn of_two_machines_that_start_with_one_address_neither_keeps_it() {
    let client = fixed(client_config(), SERVER6);
    let mut world = World::with(client, fixed(server_config(), SERVER6), 1, Faults::default());
    world.run_for(SECOND * 5);
    assert_eq!(world.client.counters().addresses_lost, 1);
    assert_eq!(world.server.counters().addresses_lost, 1);
}

#[test]
fn a_probe_that_comes_back_is_no_conflict_and_one_of_another_is() {
    for (sender, lost) in [(CLIENT_MAC, 0), (ROUTER_MAC, 1)] {
        let mut world = world();
        world.to_server.record = Some(Vec::new());
        world.run_for(SECOND / 10);
        let sent = world.to_server.record.take().unwrap();
        let is_probe = |frame: &&Vec<u8>| {
            frame[12..14] == [0x86, 0xdd] && frame[54] == 135 && frame[62..78] == CLIENT6.octets()
        };
        let mut probe = sent.iter().map(|(frame, _)| frame).find(is_probe).unwrap().clone();
        probe[6..12].copy_from_slice(&sender);
        world.to_client.inject(probe, RxMeta::default(), 0);
        world.run_for(SECOND);
        assert_eq!(world.client.counters().addresses_lost, lost);
    }
}

#[test]
fn a_router_gives_an_address_and_the_way_out() {
    let client = automatic(client_config());
    let mut world = World::with(client, server_config(), 1, Faults::default());
    world.to_server.record = Some(Vec::new());
    world.run_for(SECOND);
    let sent = icmp_of(world.to_server.record.as_ref().unwrap());
    assert!(sent.iter().any(|(_, message)| message[0] == 133), "routers are asked for");
    let prefix = Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 0);
    let message = advertisement(prefix);
    // Not from beyond the link, nor by somebody who is no router of it.
    world.to_client.inject(frame([ROUTER, ALL_NODES], (58, 254), &message), RxMeta::default(), 0);
    world.to_client.inject(frame([SERVER6, ALL_NODES], (58, 255), &message), RxMeta::default(), 0);
    world.run_for(SECOND);
    assert!(world.client.addresses6().eq([CLIENT_LOCAL]));
    let far = at6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 80);
    assert!(world.client.poll_route(far.ip(), &mut no_context()).is_pending());
    assert_eq!(world.client.connect(far, None), Err(TcpError::NotConfigured));
    world.to_client.inject(frame([ROUTER, ALL_NODES], (58, 255), &message), RxMeta::default(), 0);
    world.run_for(SECOND * 2);
    let formed = Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0xff, 0xfe00, 0x15);
    assert!(world.client.addresses6().eq([CLIENT_LOCAL, formed]));
    assert!(world.client.poll_route(far.ip(), &mut no_context()).is_ready());
    world.client.connect(far, None).unwrap();
    world.run_for(SECOND / 10);
    let (syn, _) = world.to_server.record.as_ref().unwrap().last().unwrap();
    assert_eq!((&syn[..6], syn[20]), (&ROUTER_MAC[..], 6));
    assert_eq!(syn[22..38], formed.octets());
    // The router says that the link takes packets of 1400 bytes.
    assert_eq!(syn[74..78], [2, 4, 0x05, 0x3c]);
}

#[test]
fn a_neighbour_is_asked_for_where_its_questions_are_heard() {
    let mut world = world();
    world.to_server.record = Some(Vec::new());
    let listener = world.server.listen(80, 4).unwrap();
    world.run_for(SECOND * 2);
    world.connected_to(listener, at6(SERVER6, 80));
    let sent = world.to_server.record.take().unwrap();
    let asked = |(frame, _): &&(Vec<u8>, _)| {
        frame[..6] == [0x33, 0x33, 0xff, 0, 0, 2] && frame[54] == 135 && frame[21] == 255
    };
    // The probe for the server's address came from the server; this question has our own address.
    let (question, _) = sent.iter().find(asked).unwrap();
    assert_eq!(question[22..38], CLIENT6.octets());
    assert_eq!(question[78..86], [&[1, 1][..], &CLIENT_MAC].concat());
}

#[test]
fn while_an_address_is_probed_for_nobody_is_told_to_remember_it() {
    let question =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &SERVER6.octets(), &[1, 1], &ROUTER_MAC].concat();
    for (wait, is_override) in [(SECOND / 2, false), (SECOND * 2, true)] {
        let mut world = world();
        world.run_for(wait);
        world.to_client.record = Some(Vec::new());
        world.to_server.inject(
            frame([ROUTER, SERVER6], (58, 255), &question),
            RxMeta::default(),
            0,
        );
        world.run_for(SECOND / 10);
        let sent = icmp_of(&world.to_client.record.take().unwrap());
        let (ends, answer) = sent.iter().find(|(_, message)| message[0] == 136).unwrap();
        assert_eq!(*ends, [SERVER6, ROUTER]);
        // Asked for; and to replace what is known or not.
        assert_eq!(answer[4], if is_override { 0x60 } else { 0x40 });
        assert_eq!(answer[8..24], SERVER6.octets());
        assert_eq!(answer[24..32], [&[2, 1][..], &SERVER_MAC].concat());
    }
}

#[test]
fn unasked_answers_fill_no_cache_and_change_only_what_is_known() {
    let mut world = world();
    let listener = world.server.listen(80, 4).unwrap();
    world.run_for(SECOND * 2);
    let told = |target: Ipv6Addr, flags: u8, mac: [u8; 6]| {
        let message =
            [&[136, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat();
        frame([ROUTER, ALL_NODES], (58, 255), &message)
    };
    let sent_to = |world: &mut World| {
        world.to_server.record = Some(Vec::new());
        let socket = world.client.udp_bind(None).unwrap();
        world.client.udp_send(socket, at6(SERVER6, 9), b"x").unwrap();
        world.run_for(SECOND / 10);
        let sent = world.to_server.record.take().unwrap();
        sent.iter()
            .find(|(f, _)| f[12..14] == [0x86, 0xdd] && f[20] == 17)
            .map(|(f, _)| f[..6].to_vec())
    };
    // Nobody has asked for the server yet.
    world.to_client.inject(told(SERVER6, 0x20, ROUTER_MAC), RxMeta::default(), 0);
    world.run_for(SECOND / 10);
    assert_eq!(sent_to(&mut world).unwrap(), SERVER_MAC);
    // Now it is known: only who says that it replaces what is known does.
    world.to_client.inject(told(SERVER6, 0, ROUTER_MAC), RxMeta::default(), 0);
    world.run_for(SECOND / 10);
    assert_eq!(sent_to(&mut world).unwrap(), SERVER_MAC);
    world.to_client.inject(told(SERVER6, 0x20, ROUTER_MAC), RxMeta::default(), 0);
    world.run_for(SECOND / 10);
    assert_eq!(sent_to(&mut world).unwrap(), ROUTER_MAC);
    assert!(accept(&mut world.server, listener).is_none());
}

#[test]
fn a_refusal_of_icmp_ends_only_the_connection_that_it_quotes() {
    for (is_right, expect) in [(false, Poll::Pending), (true, Poll::Ready(Err(TcpError::Refused)))]
    {
        let mut world = world();
        world.run_for(SECOND * 2);
        world.to_server.record = Some(Vec::new());
        // The server drops what comes, as its line has no room.
        let near = world.client.connect(at6(CLIENT6, 81), None);
        assert!(near.is_ok());
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let near = world.client.connect(at6(far, 80), None).unwrap();
        world.run_for(SECOND / 10);
        let sent = world.to_server.record.take().unwrap();
        let (syn, _) = sent.iter().find(|(f, _)| f[12..14] == [0x86, 0xdd] && f[20] == 6).unwrap();
        let mut quoted = syn[14..].to_vec();
        quoted[44] ^= u8::from(!is_right);
        let error = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        world.to_client.inject(frame([far, CLIENT6], (58, 64), &error), RxMeta::default(), 0);
        world.run_for(SECOND / 10);
        assert_eq!(world.client.poll_connected(near, &mut no_context()), expect);
    }
}

#[test]
fn names_are_looked_up_for_both_families() {
    let client = fixed(client_config(), CLIENT6);
    let server = Config { any_ip: true, ..fixed(server_config(), SERVER6) };
    let mut world = World::with(client, server, 1, Faults { lost: 200, ..Faults::default() });
    let mut query = Some(world.client.start_query("host.example").unwrap());
    let mut addresses = None;
    world.run_until(SECOND * 60, |world| {
        while let Some(question) = world.server.udp_recv_any() {
            let mut reply = question.data.clone();
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[7] = 1;
            let kind = reply[reply.len() - 3];
            let data = if kind == 28 { SERVER6.octets().to_vec() } else { vec![9, 8, 7, 6] };
            reply.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            reply.extend_from_slice(&data);
            world.server.udp_send_any(question.local, question.remote, &reply).unwrap();
        }
        if let Poll::Ready(result) = world.client.poll_query(&mut query, &mut no_context()) {
            addresses = Some(result.unwrap());
        }
        addresses.is_some()
    });
    // A unique local address of ours leads nowhere far, so IPv4 comes first.
    assert_eq!(addresses.unwrap(), [IpAddr::from([9, 8, 7, 6]), IpAddr::V6(SERVER6)]);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let mut world = world();
    let mut query = Some(world.client.start_query("host.example").unwrap());
    world.run_for(SECOND * 20);
    let result = world.client.poll_query(&mut query, &mut no_context());
    assert_eq!(result, Poll::Ready(Err(paravane_netstack::DnsError::NotFound)));
    assert!(world.client.next_deadline().is_none_or(|next| next > world.now));
}

/// Messages of discovery as a hostile neighbour makes them: well-formed as to checksum and hop limit.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![128u8..=137, 1u8..=4, Just(143)];
    let address = prop_oneof![
        Just(SERVER6),
        Just(SERVER_LOCAL),
        Just(ROUTER),
        any::<u128>().prop_map(Ipv6Addr::from_bits)
    ];
    let options = prop::collection::vec(
        (
            prop_oneof![1u8..=5, Just(25), any::<u8>()],
            prop_oneof![Just(1u8), Just(4), any::<u8>()],
            prop::collection::vec(any::<u8>(), 6..30),
        ),
        0..4,
    );
    (kind, any::<[u8; 4]>(), address, options).prop_map(|(kind, word, address, options)| {
        let options: Vec<u8> = options
            .into_iter()
            .flat_map(|(kind, len, rest)| [&[kind, len][..], &rest].concat())
            .collect();
        [&[kind, 0, 0, 0][..], &word, &address.octets(), &options].concat()
    })
}

proptest! {
    #[test]
    fn hostile_neighbours_do_no_harm(
        messages in prop::collection::vec(
            (message(), prop_oneof![Just(ROUTER), Just(Ipv6Addr::UNSPECIFIED), Just(CLIENT6)],
             prop_oneof![Just(SERVER6), Just(ALL_NODES), Just(SERVER_LOCAL)],
             prop_oneof![Just(255u8), Just(1), any::<u8>()], 0u64..5000), 1..60),
        is_automatic in any::<bool>(),
    ) {
        let config = if is_automatic { automatic(server_config()) } else { fixed(server_config(), SERVER6) };
        let mut now = Instant::ZERO;
        let mut stack = Stack::new(config, now);
        let mut line = crate::link::Line::new(1, Faults::default());
        for (message, source, to, hop_limit, ms) in messages {
            line.now = now;
            stack.receive(now, &frame([source, to], (58, hop_limit), &message), RxMeta::default(), &mut line);
            stack.poll(now, &mut line);
            // Once polled, nothing more is due at this moment.
            prop_assert!(stack.next_deadline().is_none_or(|next| next > now));
            prop_assert!(stack.addresses6().count() <= 5);
            now += Duration::from_millis(ms);
            while line.arrive().is_some() {}
        }
    }

    #[test]
    fn random_packets_of_ipv6_do_no_harm(
        packets in prop::collection::vec(
            (prop_oneof![Just(0u8), Just(6), Just(17), Just(43), Just(44), Just(58), Just(60), any::<u8>()],
             prop::collection::vec(any::<u8>(), 0..120), any::<bool>()), 1..20),
        any_ip in any::<bool>(),
    ) {
        let config = Config { any_ip, ..fixed(server_config(), SERVER6) };
        let mut stack = Stack::new(config, Instant::ZERO);
        stack.listen(80, 4).unwrap();
        let mut line = crate::link::Line::new(1, Faults::default());
        for (protocol, payload, is_checked) in packets {
            let frame = frame([CLIENT6, SERVER6], (protocol, 64), &payload);
            stack.receive(Instant::ZERO, &frame, RxMeta { csum_valid: is_checked }, &mut line);
            stack.poll(Instant::ZERO, &mut line);
        }
    }
}
