//! The interface against a model of the device, with a second stack behind it.
use super::*;
use crate::fake_host::{End, FakeHost};
use alloc::collections::VecDeque;
use core::net::{IpAddr, SocketAddr};
use core::task::{Context, Poll, Waker};
use paravane_abi::device::{DeviceKind, feature};
use paravane_netstack::{ConnectionId, FramePort, TxMeta};
use paravane_pv_drivers::model::{Arena, Host, Wire};

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const RAM_SIZE: u64 = 64 << 20;

const OFFLOADS: u64 = feature::NET_CSUM
    | feature::NET_GUEST_CSUM
    | feature::NET_HOST_TSO4
    | feature::NET_GUEST_TSO4
    | feature::NET_MRG_RXBUF;

fn device(features: u64) -> Device {
    Device {
        kind: DeviceKind::Net as u32,
        queue_count: 2,
        queue_size_max: 64,
        features: features | feature::VERSION_1 | feature::RING_EVENT_IDX,
        net: NetConfig {
            mac: [2, 0, 0, 0, 0, 0x15],
            mtu: 1500,
            ipv4_address: GUEST.octets(),
            ipv4_prefix_len: 24,
            ..NetConfig::default()
        },
        ..Device::default()
    }
}

/// What the peer sends, until the device has buffers for it.
#[derive(Default)]
struct Outbox {
    buffer: Vec<u8>,
    frames: VecDeque<([u8; 10], Vec<u8>)>,
}

impl FramePort for Outbox {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        self.buffer.resize(len, 0);
        Some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let mut header = [0; 10];
        header[0] = u8::from(meta.needs_csum);
        header[1] = match meta.gso_size {
            0 => 0,
            _ if meta.gso_is_ipv6 => 4,
            _ => 1,
        };
        header[2..4].copy_from_slice(&meta.hdr_len.to_le_bytes());
        header[4..6].copy_from_slice(&meta.gso_size.to_le_bytes());
        header[6..8].copy_from_slice(&meta.csum_start.to_le_bytes());
        header[8..10].copy_from_slice(&meta.csum_offset.to_le_bytes());
        self.frames.push_back((header, self.buffer[..len].to_vec()));
    }
}

/// A guest's interface, its device, and the peer.
struct Network {
    arena: Arena,
    now: StackInstant,
    guest: Interface<Arena, Host>,
    wire: Wire,
    peer: Stack,
    outbox: Outbox,
    /// The device does not take what the guest sends.
    is_stalled: bool,
    /// Bytes of the longest frame that the guest sent.
    longest_sent: usize,
}

impl Network {
    fn new(features: u64) -> Self {
        let (arena, device, now) = (Arena::default(), device(features), StackInstant::ZERO);
        let host = Host::new(&arena, device);
        let driver = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
        let wire = Wire::new(&arena, host.queue(0), host.queue(1));
        let config6 = |config: Config, address: Ipv6Addr| {
            let lease = Lease6 { address, prefix_len: 64, gateway: None, dns: None };
            Config { addressing6: Addressing6::Static(lease), ..config }
        };
        let guest_config = config6(config(&driver, RAM_SIZE, 1), GUEST6);
        let guest = Interface::new(driver, guest_config, now);
        let lease = Lease { address: PEER, prefix_len: 24, gateway: None, dns: None };
        let peer = Config {
            mac: [2, 0, 0, 0, 0, 2],
            addressing: Addressing::Static(lease),
            ..config6(config(&guest.driver, RAM_SIZE, 2), PEER6)
        };
        let (peer, outbox) = (Stack::new(peer, now), Outbox::default());
        let (is_stalled, longest_sent) = (false, 0);
        Self { arena, now, guest, wire, peer, outbox, is_stalled, longest_sent }
    }

    /// One turn of the guest's executor and what the other side makes of it, 100 µs later.
    fn turn(&mut self) {
        self.now += paravane_netstack::Duration::from_micros(100);
        let is_woken = self.guest.send(self.now);
        while !self.is_stalled
            && let Some(sent) = self.wire.next_sent()
        {
            self.longest_sent = self.longest_sent.max(sent.len());
            let csum_valid = sent[0] & 1 != 0;
            self.peer.receive(self.now, &sent[12..], RxMeta { csum_valid }, &mut self.outbox);
        }
        self.peer.poll(self.now, &mut self.outbox);
        while let Some((header, frame)) = self.outbox.frames.front()
            && self.wire.deliver(*header, frame)
        {
            self.outbox.frames.pop_front();
        }
        assert!(!self.guest.receive(self.now) || is_woken);
    }

    /// A connection from the peer: the guest's end and the peer's.
    fn connect(&mut self) -> (ConnectionId, ConnectionId) {
        self.connect_to(GUEST.into())
    }

    fn connect_to(&mut self, guest: IpAddr) -> (ConnectionId, ConnectionId) {
        let cx = &mut Context::from_waker(Waker::noop());
        let listener = self.guest.stack.listen(80, 4).unwrap();
        let far = self.peer.connect(SocketAddr::new(guest, 80), None).unwrap();
        for _ in 0..100 {
            self.turn();
            if let Poll::Ready(Some(near)) = self.guest.stack.poll_accept(listener, cx) {
                return (near, far);
            }
        }
        panic!("no connection")
    }
}

fn send(stack: &mut Stack, id: ConnectionId, bytes: &[u8]) -> usize {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let poll = stack.poll_send(id, cx, |room| {
            let len = room.len().min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            (len, len)
        });
        let Poll::Ready(len) = poll else { break };
        written += len.unwrap();
    }
    written
}

fn receive(stack: &mut Stack, id: ConnectionId, bytes: &mut Vec<u8>) {
    let cx = &mut Context::from_waker(Waker::noop());
    let take = |piece: &mut [u8]| {
        bytes.extend_from_slice(piece);
        (piece.len(), ())
    };
    if let Poll::Ready(result) = stack.poll_recv(id, cx, take) {
        result.unwrap();
    }
}

fn exchange(network: &mut Network, len: usize) {
    let ends = network.connect();
    exchange_between(network, ends, len);
}

fn exchange_between(network: &mut Network, ends: (ConnectionId, ConnectionId), len: usize) {
    let (near, far) = ends;
    let data: Vec<u8> = (0..=250).cycle().take(len).collect();
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let (mut down_sent, mut up_sent) = (0, 0);
    for _ in 0..200_000 {
        down_sent += send(&mut network.guest.stack, near, &data[down_sent..]);
        up_sent += send(&mut network.peer, far, &data[up_sent..]);
        network.turn();
        receive(&mut network.guest.stack, near, &mut up);
        receive(&mut network.peer, far, &mut down);
        if up.len() == len && down.len() == len {
            break;
        }
    }
    assert!(up == data && down == data);
}

#[test]
fn data_passes_the_rings_with_all_offloads() {
    exchange(&mut Network::new(OFFLOADS), 3_000_000);
}

#[test]
fn data_passes_the_rings_without_offloads() {
    exchange(&mut Network::new(0), 1_000_000);
}

#[test]
fn data_of_ipv6_passes_the_rings() {
    for features in [0, OFFLOADS, OFFLOADS | feature::NET_HOST_TSO6 | feature::NET_GUEST_TSO6] {
        let mut network = Network::new(features);
        let ends = network.connect_to(GUEST6.into());
        exchange_between(&mut network, ends, 1_000_000);
    }
}

#[test]
fn large_segments_are_left_to_the_device() {
    for (features, is_large) in [(OFFLOADS, true), (OFFLOADS & !feature::NET_HOST_TSO4, false)] {
        let mut network = Network::new(features);
        exchange(&mut network, 1_000_000);
        assert_eq!(network.longest_sent > 20_000, is_large, "{}", network.longest_sent);
    }
}

#[test]
fn a_body_by_reference_is_sent_when_there_is_room() {
    let mut network = Network::new(OFFLOADS);
    let body = network.arena.share(alloc::vec![7; 40_000]);
    let meta = TxMeta {
        needs_csum: true,
        csum_start: 34,
        csum_offset: 16,
        gso_size: 1448,
        hdr_len: 66,
        gso_is_ipv6: false,
    };
    let Interface { driver, reserve, .. } = &mut network.guest;
    let mut port = TxPort::new(driver, reserve);
    let mut sent = 0;
    while port.send(&[1; 66], core::slice::from_ref(&body), meta) {
        sent += 1;
    }
    assert!(sent > 10);
    network.guest.driver.flush();
    for _ in 0..sent {
        let frame = network.wire.next_sent().unwrap();
        assert_eq!(frame[..12], [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
        assert!(frame[12..78] == [1; 66] && frame[78..] == body);
    }
    assert!(network.wire.next_sent().is_none());
    let Interface { driver, reserve, .. } = &mut network.guest;
    let mut port = TxPort::new(driver, reserve);
    assert!(port.send(&[1; 66], &[], TxMeta::default()), "there is room again");
}

#[test]
fn what_a_stalled_device_does_not_take_is_sent_later() {
    let mut network = Network::new(OFFLOADS);
    let (near, far) = network.connect();
    network.is_stalled = true;
    let data: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    let mut sent = 0;
    for _ in 0..1000 {
        sent += send(&mut network.guest.stack, near, &data[sent..]);
        network.turn();
    }
    network.is_stalled = false;
    let mut heard = Vec::new();
    for _ in 0..200_000 {
        sent += send(&mut network.guest.stack, near, &data[sent..]);
        network.turn();
        receive(&mut network.peer, far, &mut heard);
        if heard.len() == data.len() {
            break;
        }
    }
    assert!(heard == data);
}

#[test]
fn a_device_that_breaks_the_rules_is_not_used_any_more() {
    // In a guest, as it is logged.
    let (end, host) = FakeHost::new().run("", || {
        let mut network = Network::new(OFFLOADS);
        assert!(network.guest.stack().is_ok());
        network.wire.receive.set_used_index(1000);
        network.guest.receive(network.now);
        assert_eq!(network.guest.stack().err(), Some(NetError::DeviceFailed));
    });
    assert_eq!(end, End::Returned);
    assert!(host.console.contains("not used any more"), "{}", host.console);
}

#[test]
fn without_an_address_of_the_operators_there_is_dhcp() {
    let known = device(0).net;
    assert!(matches!(addressing(&known), Addressing::Static(lease) if lease.address == GUEST));
    let unknown = NetConfig { ipv4_address: [0; 4], ..known };
    assert_eq!(addressing(&unknown), Addressing::Dhcp);
}

#[test]
fn the_source_of_ipv6_addresses_is_the_operators_choice() {
    let config = |mode: Ipv6Mode| Ipv6Config {
        address: GUEST6.octets(),
        gateway: PEER6.octets(),
        prefix_len: 64,
        mode: mode as u8,
        ..Ipv6Config::default()
    };
    assert_eq!(addressing6(&config(Ipv6Mode::Off)), Addressing6::Off);
    assert_eq!(addressing6(&config(Ipv6Mode::Automatic)), Addressing6::Automatic);
    let lease = Lease6 { address: GUEST6, prefix_len: 64, gateway: Some(PEER6), dns: None };
    assert_eq!(addressing6(&config(Ipv6Mode::Static)), Addressing6::Static(lease));
}
