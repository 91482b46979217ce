//! The stack against smoltcp's own TCP: two implementations that share nothing but the standards.
use crate::link::{Faults, Line, faults};
use crate::world::{
    CLIENT, SERVER, SERVER_MAC, accept, at, client_config, no_context, receive, send,
};
use paravane_netstack::{Config, ConnectionId, Duration, FramePort, Instant, Stack, TxMeta};
use proptest::prelude::*;
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use std::collections::VecDeque;
use std::task::Poll;

/// The device of smoltcp's interface: frames in and out.
#[derive(Default)]
struct Frames {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct RxToken(Vec<u8>);
struct TxToken<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl phy::Device for Frames {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken, TxToken<'_>)> {
        let frame = self.received.pop_front()?;
        Some((RxToken(frame), TxToken(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        // As much as a driver would queue.
        (self.sent.len() < 64).then_some(TxToken(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// smoltcp's end: one socket, at the server's address.
struct Other {
    interface: Interface,
    device: Frames,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Other {
    fn new(seed: u64) -> Self {
        let mut device = Frames::default();
        let mut config = iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(SERVER_MAC)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(SERVER.into(), 24)).unwrap();
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 50_000]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { interface, device, sockets, handle }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

struct Pair {
    now: Instant,
    stack: Stack,
    other: Other,
    to_stack: Line,
    to_other: Line,
}

impl Pair {
    fn new(config: Config, seed: u64, faults: Faults) -> Self {
        Self {
            now: Instant::ZERO,
            stack: Stack::new(config, Instant::ZERO),
            other: Other::new(seed),
            to_stack: Line::new(seed, faults),
            to_other: Line::new(seed.wrapping_mul(3), faults),
        }
    }

    fn settle(&mut self) {
        (self.to_stack.now, self.to_other.now) = (self.now, self.now);
        while let Some(flying) = self.to_stack.arrive() {
            self.stack.receive(self.now, &flying.frame, flying.meta, &mut self.to_other);
        }
        self.stack.poll(self.now, &mut self.to_other);
        while let Some(flying) = self.to_other.arrive() {
            self.other.device.received.push_back(flying.frame);
        }
        let Other { interface, device, sockets, .. } = &mut self.other;
        interface.poll(self.now, device, sockets);
        while let Some(frame) = device.sent.pop_front() {
            self.to_stack.buffer(frame.len()).unwrap().copy_from_slice(&frame);
            self.to_stack.commit(frame.len(), TxMeta::default());
        }
    }

    fn step(&mut self) {
        self.settle();
        let Other { interface, sockets, .. } = &mut self.other;
        let moments = [
            self.stack.next_deadline(),
            interface.poll_at(self.now, sockets),
            self.to_stack.next_arrival(),
            self.to_other.next_arrival(),
        ];
        let next = moments.into_iter().flatten().min().unwrap_or(self.now);
        self.now = next.max(self.now + Duration::from_micros(1));
    }

    fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "stuck at {}: {:?}", self.now, self.other.socket().state());
            self.step();
        }
    }

    /// A connection, opened by the stack or by smoltcp.
    fn connect(&mut self, by_stack: bool) -> ConnectionId {
        if by_stack {
            self.other.socket().listen(80).unwrap();
            let id = self.stack.connect(at(SERVER, 80), None).unwrap();
            self.run_until(Duration::from_secs(60), |pair| {
                match pair.stack.poll_connected(id, &mut no_context()) {
                    Poll::Ready(result) => result.is_ok(),
                    Poll::Pending => false,
                }
            });
            return id;
        }
        let listener = self.stack.listen(80, 4).unwrap();
        let Other { interface, sockets, handle, .. } = &mut self.other;
        let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
        socket.connect(interface.context(), (CLIENT, 80), 50_000).unwrap();
        let mut id = None;
        self.run_until(Duration::from_secs(60), |pair| {
            id = id.or(accept(&mut pair.stack, listener));
            id.is_some()
        });
        id.unwrap()
    }
}

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + salt) ^ (i >> 8)) as u8).collect()
}

/// Sends `len` bytes each way at once, then closes both directions.
fn exchange(mut pair: Pair, by_stack: bool, len: usize) {
    let id = pair.connect(by_stack);
    let (up, down) = (pattern(len, 1), pattern(len, 2));
    let (mut up_sent, mut down_sent) = (0, 0);
    let (mut up_received, mut down_received) = (Vec::new(), Vec::new());
    pair.run_until(Duration::from_secs(3600), |pair| {
        if up_sent < len {
            up_sent += send(&mut pair.stack, id, &up[up_sent..]).unwrap();
            if up_sent == len {
                pair.stack.shutdown(id);
            }
        }
        let socket = pair.other.socket();
        if down_sent < len && socket.can_send() {
            down_sent += socket.send_slice(&down[down_sent..]).unwrap();
            if down_sent == len {
                socket.close();
            }
        }
        if socket.can_recv() {
            socket
                .recv(|bytes| {
                    up_received.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        let down_done = receive(&mut pair.stack, id, &mut down_received).unwrap();
        down_done && up_received.len() == len
    });
    assert!(up_received == up && down_received == down);
    pair.stack.release(id);
    pair.run_until(Duration::from_secs(900), |pair| pair.stack.connection_count() == 0);
    assert_eq!(pair.stack.buffers_used(), 0);
}

#[test]
fn both_ways_over_a_perfect_link() {
    for by_stack in [true, false] {
        exchange(Pair::new(client_config(), 1, Faults::default()), by_stack, 1_000_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn over_links_with_faults(
        seed in any::<u64>(),
        faults in faults(),
        by_stack in any::<bool>(),
        len in 1usize..100_000,
    ) {
        exchange(Pair::new(client_config(), seed, faults), by_stack, len);
    }
}
