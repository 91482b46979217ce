//! Peers that mean no good.
use crate::link::Faults;
use crate::world::{
    CLIENT, CLIENT_MAC, SERVER, SERVER_MAC, World, client_config, receive, send, server_config,
};
use core::net::Ipv4Addr;
use paravane_netstack::{
    BufferLimits, Config, Duration, FramePort, Instant, RxMeta, Stack, TxMeta,
};
use proptest::prelude::*;

/// A frame to the server with an IPv4 packet around `payload`.
pub(crate) fn ipv4_frame(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    frame_between([CLIENT_MAC, SERVER_MAC], [source, SERVER], protocol, payload)
}

/// A frame with an IPv4 packet around `payload`, from the first of each to the second.
pub(crate) fn frame_between(
    macs: [[u8; 6]; 2],
    addresses: [Ipv4Addr; 2],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [&macs[1][..], &macs[0], &[8, 0]].concat();
    let len = (20 + payload.len()) as u16;
    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[12..16].copy_from_slice(&addresses[0].octets());
    header[16..20].copy_from_slice(&addresses[1].octets());
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum);
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

/// The checksum of bytes (RFC 1071), whose number is even.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) as u16 + (folded >> 16) as u16)).to_be_bytes()
}

fn syn(source: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&port.to_be_bytes());
    segment[3] = 80;
    segment[12] = 0x50;
    segment[13] = 0x02;
    segment[14] = 0xff;
    ipv4_frame(source, 6, &segment)
}

const UNCHECKED: RxMeta = RxMeta { csum_valid: true };

#[test]
fn a_flood_of_syns_starves_neither_old_nor_new_connections() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 64).unwrap();
    let (near, far) = world.connected(listener, 80);
    let mut flood = 0u32;
    let mut new = None;
    for round in 0..100 {
        // Many more than the backlog holds.
        for _ in 0..200 {
            flood += 1;
            let source = Ipv4Addr::from_bits(0x0b00_0000 + flood);
            world.to_server.inject(syn(source, flood as u16 | 1), UNCHECKED, 0);
        }
        if round == 50 {
            // The backlog is full: it is a cookie that makes this connection.
            let (near, far) = *new.insert(world.connected(listener, 80));
            let data = vec![7; 200_000];
            let (mut sent, mut heard) = (0, Vec::new());
            world.run_until(Duration::from_secs(60), |world| {
                sent += send(&mut world.client, near, &data[sent..]).unwrap();
                receive(&mut world.server, far, &mut heard).unwrap();
                heard == data
            });
        }
        send(&mut world.client, near, b"ping").unwrap();
        world.run_for(Duration::from_millis(50));
        let mut heard = Vec::new();
        receive(&mut world.server, far, &mut heard).unwrap();
        assert_eq!(heard, b"ping");
    }
    assert!(new.is_some());
    assert!(world.server.connection_count() <= 64 + 2);
    assert!(world.server.counters().cookies_sent > 1000);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.server.connection_count(), 2);
}

#[test]
fn half_open_connections_expire() {
    let mut world = World::perfect();
    world.server.listen(80, 64).unwrap();
    for port in 1..=64 {
        world.to_server.inject(syn(Ipv4Addr::new(11, 0, 0, 1), port), UNCHECKED, 0);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.server.connection_count(), 64);
    world.run_for(Duration::from_secs(10));
    assert_eq!((world.server.connection_count(), world.server.buffers_used()), (0, 0));
}

#[test]
fn a_reset_ends_a_half_open_connection() {
    let mut world = World::perfect();
    world.server.listen(80, 64).unwrap();
    // The client's stack knows nothing of this SYN and resets the answer.
    world.to_server.inject(syn(CLIENT, 9), UNCHECKED, 0);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.server.connection_count(), 0);
}

/// Where answers to garbage go.
struct Sink(Vec<u8>);

impl FramePort for Sink {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.resize(len, 0);
        Some(&mut self.0)
    }

    fn commit(&mut self, _len: usize, _meta: TxMeta) {}
}

/// A segment of the flow that [`syn`] with the client's address and port 9 opens.
fn segment(seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 20];
    header[1] = 9;
    header[3] = 80;
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[8..12].copy_from_slice(&ack.to_be_bytes());
    header[12] = ((20 + options.len()) as u8 / 4) << 4;
    header[13] = flags;
    header[14] = 0xff;
    ipv4_frame(Ipv4Addr::new(11, 0, 0, 1), 6, &[&header, options, payload].concat())
}

#[test]
fn data_right_behind_a_syn_cannot_overrun_the_buffer() {
    let buffers = BufferLimits { rx_min: 100_000, rx_max: 100_000, ..crate::world::BUFFERS };
    let mut stack = Stack::new(Config { buffers, ..server_config() }, Instant::ZERO);
    let listener = stack.listen(80, 4).unwrap();
    let mut sink = Sink(Vec::new());
    let window_scale = [3, 3, 7, 1];
    stack.receive(Instant::ZERO, &segment(0, 0, 2, &window_scale, &[]), UNCHECKED, &mut sink);
    stack.poll(Instant::ZERO, &mut sink);
    let isn = u32::from_be_bytes(sink.0[38..42].try_into().unwrap());
    for part in 0..4 {
        let data = segment(1 + part * 50_000, isn.wrapping_add(1), 0x10, &[], &[7; 50_000]);
        stack.receive(Instant::ZERO, &data, UNCHECKED, &mut sink);
    }
    let connection = crate::world::accept(&mut stack, listener).unwrap();
    let mut heard = Vec::new();
    receive(&mut stack, connection, &mut heard).unwrap();
    assert_eq!(heard.len(), 65535);
}

/// The timestamps option (RFC 7323).
fn timestamp(value: u32) -> [u8; 12] {
    let mut option = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    option[4..8].copy_from_slice(&value.to_be_bytes());
    option
}

#[test]
fn a_blind_segment_cannot_shut_the_peer_out() {
    let mut stack = Stack::new(server_config(), Instant::ZERO);
    let listener = stack.listen(80, 4).unwrap();
    let mut sink = Sink(Vec::new());
    let give = |stack: &mut Stack, sink: &mut Sink, frame: &[u8]| {
        stack.receive(Instant::ZERO, frame, UNCHECKED, sink);
        stack.poll(Instant::ZERO, sink);
    };
    give(&mut stack, &mut sink, &segment(0, 0, 2, &timestamp(1000), &[]));
    let isn = u32::from_be_bytes(sink.0[38..42].try_into().unwrap());
    let ack = isn.wrapping_add(1);
    give(&mut stack, &mut sink, &segment(1, ack, 0x10, &timestamp(1000), &[]));
    let connection = crate::world::accept(&mut stack, listener).unwrap();
    // In the window, from far in the future of the peer's clock: without an acknowledgement, with a
    // wrong one, and as a SYN.
    let future = timestamp(1 << 30);
    for (ack, flags) in [(0, 0), (ack.wrapping_add(1 << 30), 0x10), (0, 2)] {
        give(&mut stack, &mut sink, &segment(1, ack, flags, &future, b"forged"));
    }
    give(&mut stack, &mut sink, &segment(1, ack, 0x10, &timestamp(1001), b"genuine"));
    let mut heard = Vec::new();
    receive(&mut stack, connection, &mut heard).unwrap();
    assert_eq!(heard, b"genuine");
}

fn feed(frames: impl Iterator<Item = Vec<u8>>, any_ip: bool) {
    let mut stack = Stack::new(Config { any_ip, ..server_config() }, Instant::ZERO);
    stack.listen(80, 4).unwrap();
    let mut sink = Sink(Vec::new());
    for (ms, frame) in (0..).zip(frames) {
        let now = Instant::from_millis(ms);
        stack.receive(now, &frame, UNCHECKED, &mut sink);
        stack.receive(now, &frame, RxMeta::default(), &mut sink);
        stack.poll(now, &mut sink);
    }
}

/// Real frames of a conversation, to be damaged.
fn conversation() -> Vec<Vec<u8>> {
    let mut world = World::with(client_config(), server_config(), 1, Faults::default());
    world.to_server.record = Some(Vec::new());
    let listener = world.server.listen(80, 4).unwrap();
    let (near, far) = world.connected(listener, 80);
    send(&mut world.client, near, &[1; 5000]).unwrap();
    let socket = world.client.udp_bind(None).unwrap();
    world.client.udp_send(socket, crate::world::at(SERVER, 53), b"question").unwrap();
    world.run_for(Duration::from_secs(1));
    receive(&mut world.server, far, &mut Vec::new()).unwrap();
    world.client.release(near);
    world.run_for(Duration::from_secs(1));
    world.to_server.record.take().unwrap().into_iter().map(|(frame, _)| frame).collect()
}

proptest! {
    #[test]
    fn random_frames_do_no_harm(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        any_ip in any::<bool>(),
    ) {
        feed(frames.into_iter(), any_ip);
    }

    #[test]
    fn random_payloads_of_ip_do_no_harm(
        packets in prop::collection::vec(
            (prop_oneof![Just(1u8), Just(6), Just(17), any::<u8>()],
             prop::collection::vec(any::<u8>(), 0..100), any::<u32>()), 1..20),
        any_ip in any::<bool>(),
    ) {
        let frame = |(protocol, payload, source): (u8, Vec<u8>, u32)| {
            ipv4_frame(Ipv4Addr::from_bits(source), protocol, &payload)
        };
        feed(packets.into_iter().map(frame), any_ip);
    }

    #[test]
    fn damaged_conversations_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..8, 1u8..), 1..30),
        cut in any::<prop::sample::Index>(),
        any_ip in any::<bool>(),
    ) {
        let mut frames = conversation();
        let count = frames.len();
        for (place, offset, bits) in damage {
            let frame = &mut frames[(place.index(count) + offset) % count];
            let at = place.index(frame.len());
            frame[at] ^= bits;
        }
        let last = cut.index(count);
        let len = cut.index(frames[last].len());
        frames[last].truncate(len);
        feed(frames.into_iter(), any_ip);
    }
}
