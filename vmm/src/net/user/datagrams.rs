//! UDP: flows of datagrams of the guest, each on a socket of its own, and published ports.
//!
//! A flow is the pair of the guest's address and the address that it talks to. Its socket is connected,
//! so that the host lets nobody else's datagrams in.
use super::addresses::{Addresses, Route};
use super::publish::Publish;
use super::token::Source;
use super::{dhcp, resolver};
use mio::net::UdpSocket;
use mio::{Interest, Registry};
use paravane_netstack::{Datagram, Duration, Instant, Stack};
use slab::Slab;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most flows at a time; the one that was silent for longest makes room for another.
const FLOWS_MAX: usize = 1024;
/// A flow that was silent for this long is forgotten (RFC 4787, 4.3, asks for two minutes).
const PATIENCE: Duration = Duration::from_secs(120);
/// How often flows are looked at for silence at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Most datagrams taken from one socket in a row.
const DATAGRAMS_PER_TURN: usize = 64;
/// Ports that clients of published ports appear to come from: first and count.
const CLIENT_PORT_FIRST: u16 = 32768;
const CLIENT_PORT_COUNT: u16 = 16384;

/// Both ends of a flow as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    guest: SocketAddr,
    other: SocketAddr,
}

/// The host's end of a flow.
#[derive(Debug)]
enum HostEnd {
    /// The guest began it.
    Connected(UdpSocket),
    /// A client of a published port, by its place in the list, began it.
    Client { port: usize, address: SocketAddr },
}

#[derive(Debug)]
struct Flow {
    ends: Ends,
    host: HostEnd,
    last_used: Instant,
}

/// The UDP side of the network.
#[derive(Debug)]
pub(super) struct Datagrams {
    addresses: Addresses,
    flows: Slab<Flow>,
    by_ends: HashMap<Ends, usize>,
    by_client: HashMap<(usize, SocketAddr), usize>,
    published: Vec<(UdpSocket, SocketAddr)>,
    /// Sockets that may have datagrams to take.
    ready: VecDeque<Source>,
    next_client_port: u16,
    next_sweep: Instant,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            flows: Slab::new(),
            by_ends: HashMap::new(),
            by_client: HashMap::new(),
            published: Vec::new(),
            ready: VecDeque::new(),
            next_client_port: 0,
            next_sweep: Instant::ZERO,
            buffer: vec![0; 0x1_0000],
        }
    }

    /// Adds a published port.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        mut socket: UdpSocket,
        registry: &Registry,
    ) -> io::Result<()> {
        let token = Source::Published(self.published.len()).token();
        registry.register(&mut socket, token, Interest::READABLE)?;
        let guest = SocketAddr::new(self.addresses.guest.into(), publish.guest_port);
        self.published.push((socket, guest));
        Ok(())
    }

    /// A socket has datagrams to take.
    pub(super) fn note(&mut self, source: Source) {
        self.ready.push_back(source);
    }

    /// Whether there are datagrams to take.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When to call [`Self::forget_silent`] next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.flows.is_empty()).then_some(self.next_sweep)
    }

    /// Carries the guest's datagrams on.
    pub(super) fn take_from_guest(&mut self, stack: &mut Stack, registry: &Registry, now: Instant) {
        while let Some(datagram) = stack.udp_recv_any() {
            if datagram.local.port() == dhcp::SERVER_PORT {
                self.answer_dhcp(stack, &datagram);
            } else if let Some(key) = self.flow_of_guest(&datagram, registry, now) {
                self.send(key, &datagram.data, now);
            }
        }
    }

    fn answer_dhcp(&self, stack: &mut Stack, datagram: &Datagram) {
        if let Some(reply) = dhcp::answer(&datagram.data, &self.addresses) {
            let server = SocketAddr::new(self.addresses.gateway.into(), dhcp::SERVER_PORT);
            // A lost answer is asked for again.
            let _ = stack.udp_send_any(server, dhcp::destination(), &reply);
        }
    }

    fn flow_of_guest(
        &mut self,
        datagram: &Datagram,
        registry: &Registry,
        now: Instant,
    ) -> Option<usize> {
        let ends = Ends { guest: datagram.remote, other: datagram.local };
        if let Some(&key) = self.by_ends.get(&ends) {
            return Some(key);
        }
        let destination = match self.addresses.route(ends.other) {
            Route::Out(destination) => destination,
            Route::Resolver => resolver::server()?,
            Route::Refused => return None,
        };
        self.make_room();
        let mut socket = connected(destination).ok()?;
        let token = Source::Flow(self.flows.vacant_key()).token();
        registry.register(&mut socket, token, Interest::READABLE).ok()?;
        Some(self.insert(Flow { ends, host: HostEnd::Connected(socket), last_used: now }))
    }

    fn insert(&mut self, flow: Flow) -> usize {
        let ends = flow.ends;
        let key = self.flows.insert(flow);
        self.by_ends.insert(ends, key);
        key
    }

    /// Sends to the host's network. A datagram that the host does not take is lost.
    fn send(&mut self, key: usize, data: &[u8], now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.last_used = now;
        let _ = match &flow.host {
            HostEnd::Connected(socket) => socket.send(data),
            HostEnd::Client { port, address } => self.published[*port].0.send_to(data, *address),
        };
    }

    /// Carries datagrams of the host's network on to the guest.
    pub(super) fn take_from_host(&mut self, stack: &mut Stack, now: Instant) {
        for _ in 0..self.ready.len() {
            let Some(source) = self.ready.pop_front() else { break };
            let is_drained = match source {
                Source::Published(port) => self.take_from_clients(port, stack, now),
                Source::Flow(key) => self.take_from_flow(key, stack, now),
                Source::Wire | Source::LifeLine | Source::Listener(_) | Source::Relay(_) => true,
            };
            if !is_drained {
                self.ready.push_back(source);
            }
        }
    }

    /// Whether the socket has no more.
    fn take_from_flow(&mut self, key: usize, stack: &mut Stack, now: Instant) -> bool {
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(flow) = self.flows.get_mut(key) else { return true };
            let HostEnd::Connected(socket) = &flow.host else { return true };
            match socket.recv(&mut self.buffer) {
                Ok(len) => {
                    flow.last_used = now;
                    let Ends { guest, other } = flow.ends;
                    // What the guest has no room for is lost.
                    let _ = stack.udp_send_any(other, guest, &self.buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // Such as "connection refused" for an earlier datagram: not about this one.
                Err(_) => {}
            }
        }
        false
    }

    /// Whether the socket has no more.
    fn take_from_clients(&mut self, port: usize, stack: &mut Stack, now: Instant) -> bool {
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some((socket, guest)) = self.published.get(port) else { return true };
            match socket.recv_from(&mut self.buffer) {
                Ok((len, client)) => {
                    let guest = *guest;
                    let other = self.stand_in(port, client, guest, now);
                    let _ = stack.udp_send_any(other, guest, &self.buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {}
            }
        }
        false
    }

    /// The address that stands for a client of a published port.
    fn stand_in(
        &mut self,
        port: usize,
        client: SocketAddr,
        guest: SocketAddr,
        now: Instant,
    ) -> SocketAddr {
        if let Some(&key) = self.by_client.get(&(port, client))
            && let Some(flow) = self.flows.get_mut(key)
        {
            flow.last_used = now;
            return flow.ends.other;
        }
        self.make_room();
        let ends = Ends { guest, other: self.free_stand_in(client, guest) };
        let host = HostEnd::Client { port, address: client };
        let key = self.insert(Flow { ends, host, last_used: now });
        self.by_client.insert((port, client), key);
        ends.other
    }

    /// There are more ports than flows, so one is free.
    fn free_stand_in(&mut self, client: SocketAddr, guest: SocketAddr) -> SocketAddr {
        let address = self.addresses.stand_in(client.ip());
        loop {
            let port = CLIENT_PORT_FIRST + self.next_client_port;
            self.next_client_port = (self.next_client_port + 1) % CLIENT_PORT_COUNT;
            let other = SocketAddr::new(address.into(), port);
            if !self.by_ends.contains_key(&Ends { guest, other }) {
                return other;
            }
        }
    }

    /// Forgets the flows that were silent for too long.
    pub(super) fn forget_silent(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        let is_silent = |flow: &Flow| flow.last_used + PATIENCE <= now;
        let silent: Vec<usize> =
            self.flows.iter().filter(|(_, flow)| is_silent(flow)).map(|(key, _)| key).collect();
        silent.into_iter().for_each(|key| self.forget(key));
        // Who is silent now will be forgotten when its time is over, and not looked at until then.
        let oldest = self.flows.iter().map(|(_, flow)| flow.last_used).min();
        let due = oldest.map_or(now, |last_used| last_used + PATIENCE);
        self.next_sweep = due.max(now + SWEEP_INTERVAL);
    }

    fn make_room(&mut self) {
        if self.flows.len() < FLOWS_MAX {
            return;
        }
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last_used).map(|(key, _)| key);
        if let Some(key) = oldest {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: usize) {
        let Some(flow) = self.flows.try_remove(key) else { return };
        self.by_ends.remove(&flow.ends);
        if let HostEnd::Client { port, address } = flow.host {
            self.by_client.remove(&(port, address));
        }
    }
}

fn connected(destination: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(destination)?;
    Ok(socket)
}
