//! All TCP connections, those that the guest made and those to its published ports.
use super::addresses::{Addresses, Route};
use super::publish::Publish;
use super::relay::{GuestEnd, Progress, Relay, reset_on_drop};
use super::resolver;
use super::signal::{ReadyQueue, Signal};
use super::token::Source;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use paravane_netstack::{Flow, Instant, PendingId, Stack};
use slab::Slab;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Most connections taken from one published port in a row.
const ACCEPTS_PER_TURN: usize = 64;

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
    pub(super) count_max: usize,
}

impl Relays {
    pub(super) fn new(addresses: Addresses, count_max: usize) -> Self {
        Self {
            addresses,
            relays: Slab::new(),
            ready: Arc::default(),
            listeners: Vec::new(),
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

    /// Takes connections from the published ports.
    pub(super) fn accept(&mut self, stack: &mut Stack, registry: &Registry) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some((stream, guest)) = self.accept_one(index) else { break };
                self.connect_to_guest(stream, guest, stack, registry);
            }
        }
    }

    fn accept_one(&mut self, index: usize) -> Option<(TcpStream, SocketAddr)> {
        let listener = self.listeners.get_mut(index).filter(|listener| listener.is_ready)?;
        match listener.socket.accept() {
            Ok((stream, _)) => Some((stream, listener.guest)),
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

    /// Carries a connection of the host's on to the guest, or resets it.
    fn connect_to_guest(
        &mut self,
        stream: TcpStream,
        guest: SocketAddr,
        stack: &mut Stack,
        registry: &Registry,
    ) {
        if self.relays.len() < self.count_max
            && let Ok(connection) = stack.connect(guest, None)
        {
            if self.add(stream, GuestEnd::Connecting(connection), registry).is_err() {
                stack.abort(connection);
                stack.release(connection);
            }
        } else {
            reset_on_drop(&stream);
        }
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
        let destination = match self.addresses.route(flow.local_address()) {
            Route::Out(destination) => destination,
            Route::Resolver => resolver::server()?,
            Route::Refused => return None,
        };
        if self.relays.len() >= self.count_max {
            return None;
        }
        let stream = TcpStream::connect(destination).ok()?;
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
        // What the other end of a relay sends was cut into segments already.
        let _ = stream.set_nodelay(true);
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
