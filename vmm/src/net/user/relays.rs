//! All TCP connections, those that the guest made and those to its published ports.
use super::addresses::{Addresses, Route};
use super::publish::Publish;
use super::relay::{GuestEnd, Progress, Relay, reset_on_drop};
use super::signal::{ReadyQueue, Signal};
use super::token::Source;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use paravane_netstack::{ConnectionId, Flow, Instant, PendingId, Stack, TcpError};
use slab::Slab;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Most connections taken from one published port in a row.
const ACCEPTS_PER_TURN: usize = 64;

/// First of the ports that clients appear to come from.
const CLIENT_PORT_FIRST: u16 = 1024;
/// Most ports tried for one client.
const PORT_TRIES: usize = 64;

/// A published port.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    guest: SocketAddr,
    /// There may be connections to take.
    is_ready: bool,
}

/// The TCP connections of the network.
#[derive(Debug)]
pub(super) struct Relays {
    addresses: Addresses,
    relays: Slab<Relay>,
    ready: Arc<ReadyQueue>,
    listeners: Vec<Listener>,
    next_port: u16,
    pub(super) count_max: usize,
}

impl Relays {
    pub(super) fn new(addresses: Addresses, count_max: usize) -> Self {
        Self {
            addresses,
            relays: Slab::new(),
            ready: Arc::default(),
            listeners: Vec::new(),
            next_port: CLIENT_PORT_FIRST,
            count_max,
        }
    }

    /// Adds a published port.
    pub(super) fn listen(
        &mut self,
        publish: &Publish,
        mut socket: TcpListener,
        registry: &Registry,
    ) -> io::Result<()> {
        let token = Source::Listener(self.listeners.len()).token();
        registry.register(&mut socket, token, Interest::READABLE)?;
        let guest = SocketAddr::new(self.addresses.guest.into(), publish.guest_port);
        self.listeners.push(Listener { socket, guest, is_ready: false });
        Ok(())
    }

    /// A published port has connections to take.
    pub(super) fn note_listener(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.is_ready = true;
        }
    }

    /// Something happened to a connection's socket.
    pub(super) fn note_relay(&mut self, key: usize, event: &Event) {
        if let Some(relay) = self.relays.get_mut(key) {
            relay.note(event);
        }
    }

    /// Whether connections have something to do.
    pub(super) fn has_work(&self) -> bool {
        self.ready.len() > 0
    }

    /// Whether connections wait at a published port, although it was looked at: the host had no
    /// descriptor left, or it was another port's turn.
    pub(super) fn has_waiting(&self) -> bool {
        self.listeners.iter().any(|listener| listener.is_ready)
    }

    /// Takes connections from the published ports and carries them on to the guest, or resets them.
    pub(super) fn accept(&mut self, stack: &mut Stack, registry: &Registry) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some((stream, from, to)) = self.accept_one(index) else { break };
                let Some(connection) = self.connect_to_guest(from, to, stack) else {
                    reset_on_drop(&stream);
                    continue;
                };
                if self.add(stream, GuestEnd::Connecting(connection), registry).is_err() {
                    stack.abort(connection);
                    stack.release(connection);
                }
            }
        }
    }

    /// A connection to a published port, with its client and where in the guest it is to go.
    fn accept_one(&mut self, index: usize) -> Option<(TcpStream, IpAddr, SocketAddr)> {
        let listener = self.listeners.get_mut(index).filter(|listener| listener.is_ready)?;
        match listener.socket.accept() {
            Ok((stream, client)) => Some((stream, client.ip(), listener.guest)),
            Err(error) => {
                // Out of descriptors: there is more to take, later.
                let is_short = matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
                );
                listener.is_ready = is_short;
                None
            }
        }
    }

    /// Begins a connection to the guest. Ports are used in turn, so that one comes back only after the
    /// guest has forgotten the connection that had it last.
    fn connect_to_guest(
        &mut self,
        client: IpAddr,
        guest: SocketAddr,
        stack: &mut Stack,
    ) -> Option<ConnectionId> {
        if self.relays.len() >= self.count_max {
            return None;
        }
        let address = self.addresses.stand_in(client);
        for _ in 0..PORT_TRIES {
            let local = SocketAddr::new(address.into(), self.next_port);
            self.next_port = self.next_port.checked_add(1).unwrap_or(CLIENT_PORT_FIRST);
            match stack.connect(guest, Some(local)) {
                Err(TcpError::InUse) => {}
                result => return result.ok(),
            }
        }
        None
    }

    /// Carries the connections that the guest wants on to the host's network, or refuses them.
    pub(super) fn take_offers(&mut self, stack: &mut Stack, registry: &Registry) {
        while let Some((id, flow)) = stack.accept_any() {
            if self.connect_to_host(id, &flow, registry).is_none() {
                stack.refuse_pending(id);
            }
        }
    }

    fn connect_to_host(&mut self, id: PendingId, flow: &Flow, registry: &Registry) -> Option<()> {
        // The resolver is asked by datagrams only.
        let Route::Out(destination) = self.addresses.route(flow.local_address()) else {
            return None;
        };
        if self.relays.len() >= self.count_max {
            return None;
        }
        let stream = TcpStream::connect(destination).ok()?;
        // As for published ports. Without it, some of what the guest sends waits for more.
        let _ = stream.set_nodelay(true);
        self.add(stream, GuestEnd::Offered(id), registry).ok()
    }

    fn add(
        &mut self,
        mut stream: TcpStream,
        guest: GuestEnd,
        registry: &Registry,
    ) -> io::Result<()> {
        let entry = self.relays.vacant_entry();
        let token = Source::Relay(entry.key()).token();
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let signal = Signal::new(entry.key(), &self.ready);
        signal.raise();
        entry.insert(Relay::new(stream, guest, signal));
        Ok(())
    }

    /// Lets every connection that is ready do what it can, once.
    pub(super) fn advance(&mut self, stack: &mut Stack, now: Instant) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop() else { break };
            let Some(relay) = self.relays.get_mut(key) else { continue };
            relay.signal.taken();
            if relay.advance(stack, now) == Progress::Over {
                // Dropping the socket closes it, which ends its registration.
                self.relays.remove(key);
            }
        }
    }
}
