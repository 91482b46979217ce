//! TCP connections whose peer is hostile and listens: it knows the numbers that the stack uses.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, ConnectionId, FramePort, Instant, Lease,
    ListenerId, Offloads, RxMeta, Stack, TxMeta,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Queues of all connections take no more, but for what each may always have.
const TOTAL: usize = 256 << 10;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A segment near the numbers that the stack sent last, to the connection that it sent it on.
    Segment {
        ahead: i16,
        acknowledged: i16,
        flags: u8,
        window: u16,
        options: Vec<u8>,
        data_len: u16,
    },
    /// A SYN to the listening port.
    Syn {
        port: u8,
        sequence: u32,
        window: u16,
        options: Vec<u8>,
    },
    /// The stack's segments are too big for a router.
    TooBig {
        mtu: u16,
        behind: i16,
    },
    /// The application connects to the peer.
    Connect {
        port: u8,
    },
    /// The application writes, by copy or by reference.
    Write {
        len: u16,
        by_reference: bool,
    },
    /// The application reads.
    Read {
        len: u16,
    },
    /// The application has written all; or lets go.
    Finish,
    Release,
    Pass {
        ms: u16,
    },
    Stall(bool),
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_any_ip: bool,
    segments: bool,
    steps: Vec<Step>,
}

/// What the stack said last.
#[derive(Clone, Copy, Default)]
struct Said {
    local: u16,
    remote: u16,
    start: u32,
    end: u32,
    acknowledgement: u32,
}

struct Sink {
    buffer: Vec<u8>,
    is_stalled: bool,
    said: Said,
}

impl FramePort for Sink {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        assert!(len <= 14 + 65_535);
        self.buffer.resize(len, 0);
        (!self.is_stalled).then_some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let checksum_end = usize::from(meta.csum_start) + usize::from(meta.csum_offset) + 2;
        assert!(!meta.needs_csum || checksum_end <= len);
        assert!(meta.gso_size == 0 || meta.needs_csum && usize::from(meta.hdr_len) <= len);
        let frame = &self.buffer[..len];
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return;
        }
        let tcp = &frame[34..];
        let word = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().expect("4 bytes"));
        let payload = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        assert!(meta.gso_size > 0 || len <= 14 + 1500);
        let control = u32::from(tcp[13] & 1) + u32::from(tcp[13] >> 1 & 1);
        let end = number(4).wrapping_add(u32::try_from(payload).expect("short") + control);
        let (local, remote) = (word(0), word(2));
        self.said = Said { local, remote, start: number(4), end, acknowledgement: number(8) };
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 20];
    header[0] = 0x45;
    let len = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[8..10].copy_from_slice(&[64, protocol]);
    header[12..16].copy_from_slice(&PEER.octets());
    header[16..].copy_from_slice(&ADDRESS.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&MAC[..], &PEER_MAC, &[8, 0], &header, payload].concat()
}

fn tcp(
    ports: [u16; 2],
    numbers: [u32; 2],
    flags: u8,
    window: u16,
    options: &[u8],
    len: usize,
) -> Vec<u8> {
    let mut options: Vec<u8> = options.iter().copied().take(40).collect();
    options.resize(options.len().next_multiple_of(4), 0);
    let mut segment = Vec::new();
    ports.iter().for_each(|port| segment.extend(port.to_be_bytes()));
    numbers.iter().for_each(|number| segment.extend(number.to_be_bytes()));
    let header_len = u8::try_from(20 + options.len()).unwrap_or(60);
    segment.extend([header_len / 4 << 4, flags & 0x3f]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(options);
    segment.resize(segment.len() + len.min(60_000), 7);
    frame(6, &segment)
}

/// What the peer sends in a step.
fn sent(step: &Step, said: Said) -> Option<Vec<u8>> {
    let near = |number: u32, by: i16| number.wrapping_add_signed(i32::from(by));
    match step {
        Step::Segment { ahead, acknowledged, flags, window, options, data_len } => {
            let numbers = [near(said.acknowledgement, *ahead), near(said.end, *acknowledged)];
            let len = usize::from(*data_len);
            Some(tcp([said.remote, said.local], numbers, *flags, *window, options, len))
        }
        Step::Syn { port, sequence, window, options } => {
            let ports = [1024 + u16::from(port % 16), 80];
            Some(tcp(ports, [*sequence, 0], 2, *window, options, 0))
        }
        Step::TooBig { mtu, behind } => {
            let [high, low] = mtu.to_be_bytes();
            let mut quoted = [0; 20];
            (quoted[0], quoted[9]) = (0x45, 6);
            quoted[12..16].copy_from_slice(&ADDRESS.octets());
            quoted[16..].copy_from_slice(&PEER.octets());
            let mut message = [&[3, 4, 0, 0, 0, 0, high, low], &quoted[..]].concat();
            message.extend(said.local.to_be_bytes());
            message.extend(said.remote.to_be_bytes());
            message.extend(near(said.start, *behind).to_be_bytes());
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum);
            Some(frame(1, &message))
        }
        _ => None,
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// The application: whatever it has, it does to its latest connection.
fn act(step: &Step, stack: &mut Stack, listener: ListenerId, open: &mut Vec<ConnectionId>) {
    while let Poll::Ready(Some(id)) = stack.poll_accept(listener, &mut context()) {
        open.push(id);
    }
    if let Step::Connect { port } = step {
        let remote = SocketAddr::new(PEER.into(), 1 + u16::from(*port));
        open.extend(stack.connect(remote, None));
    }
    let Some(&id) = open.last() else { return };
    match step {
        Step::Write { len, by_reference: true } => {
            let mut bytes = Bytes::from(vec![7; usize::from(*len)]);
            let _ = stack.poll_send_bytes(id, &mut context(), &mut bytes);
        }
        Step::Write { len, by_reference: false } => {
            let _ =
                stack.poll_send(id, &mut context(), |room| (room.len().min(usize::from(*len)), ()));
        }
        Step::Read { len } => {
            let _ = stack.poll_recv(id, &mut context(), |bytes| {
                assert!(bytes.iter().all(|byte| *byte == 7));
                (bytes.len().min(usize::from(*len)), ())
            });
        }
        Step::Finish => stack.shutdown(id),
        Step::Release => {
            open.pop();
            stack.release(id);
        }
        _ => {}
    }
}

fuzz_target!(|input: Input| {
    let lease = Lease { address: ADDRESS, prefix_len: 24, gateway: Some(PEER), dns: None };
    let limits = BufferLimits {
        rx_min: 2048,
        rx_max: 128 << 10,
        tx_min: 2048,
        tx_max: 1 << 20,
        total: TOTAL,
    };
    let config = Config {
        mac: MAC,
        mtu: 1500,
        offloads: Offloads {
            tx_checksum: input.segments,
            tx_segmentation: input.segments,
            tx_segmentation6: false,
        },
        addressing: Addressing::Static(lease),
        addressing6: Addressing6::Off,
        any_ip: input.is_any_ip,
        connections_max: 8,
        buffers: limits,
        seed: 7,
    };
    let mut now = Instant::from_millis(0);
    let mut stack = Stack::new(config, now);
    let listener = stack.listen(80, 4).expect("a free port");
    let mut port = Sink { buffer: Vec::new(), is_stalled: false, said: Said::default() };
    let mut open = Vec::new();
    for step in &input.steps {
        if let Some(frame) = sent(step, port.said) {
            stack.receive(now, &frame, RxMeta { csum_valid: true }, &mut port);
        }
        act(step, &mut stack, listener, &mut open);
        match step {
            Step::Pass { ms } => now += paravane_netstack::Duration::from_millis(u64::from(*ms)),
            Step::Stall(is_stalled) => port.is_stalled = *is_stalled,
            _ => {}
        }
        stack.poll(now, &mut port);
        // Each connection may have its smallest queues beyond the total, in whole chunks, and what was
        // taken in last.
        assert!(stack.connection_count() <= 8 + 4);
        assert!(stack.buffers_used() <= TOTAL + 8 * (64 << 10) * 3);
    }
    open.into_iter().for_each(|id| stack.release(id));
});
