//! The TCP/IP stack, with frames of a hostile peer: raw ones, and ones with right checksums.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, FramePort, Instant, Lease, Lease6, Offloads,
    RxMeta, Stack, TxMeta,
};
use std::net::{Ipv4Addr, Ipv6Addr};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[derive(Arbitrary, Debug)]
enum Step {
    /// A frame with anything in it.
    Raw(Vec<u8>),
    /// An IPv4 packet to the stack; the stack is told that the checksums are right.
    Packet { protocol: u8, payload: Vec<u8> },
    /// An IPv6 packet to the stack, whose first header behind IPv6's is `next`.
    Packet6 { next: u8, hop_limit: u8, payload: Vec<u8> },
    /// An ICMPv6 message with a right checksum, from a router of the link or from nobody.
    Message { to_all: bool, from_nobody: bool, is_near: bool, kind: u8, body: Vec<u8> },
    /// A TCP segment to the listening port.
    Segment {
        is_ipv6: bool,
        port: u8,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        window: u16,
        data: Vec<u8>,
    },
    /// Time passes.
    Pass { ms: u16 },
    /// The device takes no frames for a while.
    Stall(bool),
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_any_ip: bool,
    uses_dhcp: bool,
    /// 0: no IPv6; 1: an address; others: what routers advertise.
    addressing6: u8,
    steps: Vec<Step>,
}

/// A device that forgets what is sent.
struct Sink {
    buffer: Vec<u8>,
    is_stalled: bool,
}

impl FramePort for Sink {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        assert!(len <= 14 + 65_535);
        self.buffer.resize(len, 0);
        (!self.is_stalled).then_some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        assert!((14..=self.buffer.len()).contains(&len));
        let checksum_end = usize::from(meta.csum_start) + usize::from(meta.csum_offset) + 2;
        assert!(!meta.needs_csum || checksum_end <= len);
        assert!(meta.gso_size == 0 || meta.needs_csum && usize::from(meta.hdr_len) <= len);
    }
}

fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(MAC);
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    let len = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&PEER.octets());
    header[16..].copy_from_slice(&ADDRESS.octets());
    let sum: u32 = header.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// A frame with an IPv6 packet.
fn frame6(ends: [Ipv6Addr; 2], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(MAC);
    frame.extend([2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    frame.extend([next, hop_limit]);
    ends.iter().for_each(|end| frame.extend(end.octets()));
    frame.extend(payload);
    frame
}

/// An ICMPv6 message whose kind is one that the stack knows, completed with its checksum.
fn message(step: &Step) -> Option<Vec<u8>> {
    let Step::Message { to_all, from_nobody, is_near, kind, body } = step else { return None };
    let source = if *from_nobody { Ipv6Addr::UNSPECIFIED } else { ROUTER };
    let destination = if *to_all { ALL_NODES } else { ADDRESS6 };
    let kinds = [1, 2, 3, 4, 128, 129, 130, 133, 134, 135, 136, 137];
    let mut message = vec![kinds[usize::from(*kind) % kinds.len()], 0, 0, 0];
    message.extend(body.iter().take(1500));
    let pseudo: Vec<u8> = [&source.octets()[..], &destination.octets()].concat();
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u64 = pseudo.chunks(2).chain(message.chunks(2)).map(word).sum();
    sum += 58 + message.len() as u64;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap_or(0)).to_be_bytes());
    let hop_limit = if *is_near { 255 } else { 1 };
    Some(frame6([source, destination], 58, hop_limit, &message))
}

fn segment(step: &Step) -> Option<Vec<u8>> {
    let Step::Segment { is_ipv6, port, sequence, acknowledgement, flags, window, data } = step
    else {
        return None;
    };
    let mut segment = Vec::new();
    segment.extend((1024 + u16::from(port % 4)).to_be_bytes());
    segment.extend(80_u16.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.to_be_bytes());
    segment.extend([0x50, flags & 0x3f]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(data);
    if *is_ipv6 {
        return Some(frame6([PEER6, ADDRESS6], 6, 64, &segment));
    }
    Some(frame(6, &segment))
}

fuzz_target!(|input: Input| {
    let lease = Lease { address: ADDRESS, prefix_len: 24, gateway: Some(PEER), dns: None };
    let addressing = if input.uses_dhcp { Addressing::Dhcp } else { Addressing::Static(lease) };
    let lease6 =
        Lease6 { address: ADDRESS6, prefix_len: 64, gateway: Some(ROUTER), dns: Some(PEER6) };
    let addressing6 = match input.addressing6 % 3 {
        0 => Addressing6::Off,
        1 => Addressing6::Static(lease6),
        _ => Addressing6::Automatic,
    };
    let config = Config {
        mac: MAC,
        mtu: 1500,
        offloads: Offloads { tx_checksum: true, tx_segmentation: true, tx_segmentation6: true },
        addressing,
        addressing6,
        any_ip: input.is_any_ip,
        connections_max: 8,
        buffers: BufferLimits {
            rx_min: 2048,
            rx_max: 16_384,
            tx_min: 2048,
            tx_max: 65_536,
            total: 1 << 20,
        },
        seed: 7,
    };
    let mut now = Instant::from_millis(0);
    let mut stack = Stack::new(config, now);
    let _ = stack.listen(80, 4);
    let mut port = Sink { buffer: Vec::new(), is_stalled: false };
    for step in &input.steps {
        let meta = RxMeta { csum_valid: true };
        match step {
            Step::Raw(bytes) => {
                stack.receive(now, bytes, RxMeta { csum_valid: false }, &mut port);
            }
            Step::Packet { protocol, payload } => {
                stack.receive(now, &frame(*protocol, payload), meta, &mut port);
            }
            Step::Packet6 { next, hop_limit, payload } => {
                let frame = frame6([PEER6, ADDRESS6], *next, *hop_limit, payload);
                stack.receive(now, &frame, meta, &mut port);
            }
            Step::Message { .. } => {
                let message = message(step).expect("it is one");
                stack.receive(now, &message, RxMeta { csum_valid: false }, &mut port);
            }
            Step::Segment { .. } => {
                let segment = segment(step).expect("it is one");
                stack.receive(now, &segment, meta, &mut port);
            }
            Step::Pass { ms } => now += paravane_netstack::Duration::from_millis(u64::from(*ms)),
            Step::Stall(is_stalled) => port.is_stalled = *is_stalled,
        }
        stack.poll(now, &mut port);
        // The half-open ones come on top: as many as the backlog.
        assert!(stack.connection_count() <= 8 + 4);
        assert!(stack.addresses6().count() <= 5);
    }
});
