//! The loop: frames, sockets and timers, one after the other, on one thread.
use super::UserNetworkError;
use super::addresses::Addresses;
use super::datagrams::Datagrams;
use super::publish::{Protocol, Publish};
use super::relays::Relays;
use super::token::Source;
use super::wire::{Reader, Writer};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, Instant, Lease, Offloads, Stack,
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{self, Duration};

/// Ethernet address of the gateway: locally administered.
const GATEWAY_MAC: [u8; 6] = [0x02, 0x50, 0x56, 0, 0, 0x02];
/// Largest IP packet, bytes.
const MTU: usize = 1500;
/// Most frames taken from the guest in a row.
const FRAMES_PER_TURN: usize = 256;
/// Most events taken from the poller in a row.
const EVENTS_PER_TURN: usize = 1024;
/// Connections before [`Engine::set_connections_max`].
const CONNECTIONS_MAX: usize = 16_384;
/// When to look again at a published port that could not be served for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const BUFFERS: BufferLimits = BufferLimits {
    rx_min: 8 << 10,
    rx_max: 256 << 10,
    tx_min: 4 << 10,
    tx_max: 1 << 20,
    total: 32 << 20,
};

/// The network at work.
#[derive(Debug)]
pub(super) struct Engine {
    poll: Poll,
    socket: Arc<OwnedFd>,
    /// The poller also watches for room on the wire.
    watches_room: bool,
    reader: Reader,
    writer: Writer,
    stack: Stack,
    relays: Relays,
    datagrams: Datagrams,
    started: time::Instant,
}

impl Engine {
    /// Opens the published ports.
    pub(super) fn new(
        addresses: Addresses,
        publish: &[Publish],
        socket: OwnedFd,
    ) -> Result<Self, UserNetworkError> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let socket = Arc::new(socket);
        let mut source = SourceFd(&socket.as_raw_fd());
        registry.register(&mut source, Source::Wire.token(), Interest::READABLE)?;
        let mut relays = Relays::new(addresses, CONNECTIONS_MAX);
        let mut datagrams = Datagrams::new(addresses);
        for port in publish {
            match port.protocol {
                Protocol::Tcp => relays.listen(port, port.listen()?, registry)?,
                Protocol::Udp => datagrams.publish(port, port.bind()?, registry)?,
            }
        }
        Ok(Self {
            poll,
            watches_room: false,
            reader: Reader::new(Arc::clone(&socket)),
            writer: Writer::new(Arc::clone(&socket)),
            socket,
            stack: Stack::new(configuration(&addresses)?, Instant::ZERO),
            relays,
            datagrams,
            started: time::Instant::now(),
        })
    }

    /// Limits the number of TCP connections further.
    pub(super) fn set_connections_max(&mut self, count: usize) {
        self.relays.count_max = count.min(CONNECTIONS_MAX);
    }

    /// Works until the guest's end of the wire is closed.
    ///
    /// # Errors
    /// The poller or the wire failed.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            self.wait(&mut events, self.timeout())?;
            match self.turn() {
                Err(error) if is_end(&error) => return Ok(()),
                result => result?,
            }
        }
    }

    /// Does what is ready now, for tests.
    #[cfg(test)]
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.wait(&mut Events::with_capacity(EVENTS_PER_TURN), Some(Duration::ZERO))?;
        self.turn()
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &*events {
            self.note(event);
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        match Source::of(event.token()) {
            Source::Wire => self.reader.is_ready = true,
            Source::Listener(index) => self.relays.note_listener(index),
            Source::Relay(key) => self.relays.note_relay(key, event),
            source => self.datagrams.note(source),
        }
    }

    /// One turn: everything that is ready does a bounded share of its work.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.now();
        self.receive(now)?;
        let registry = self.poll.registry();
        self.relays.take_offers(&mut self.stack, registry);
        self.relays.accept(&mut self.stack, registry);
        self.relays.advance(&mut self.stack, now);
        self.datagrams.take_from_guest(&mut self.stack, registry, now);
        self.datagrams.take_from_host(&mut self.stack, now);
        self.datagrams.forget_silent(now);
        let is_full = self.stack.poll(now, &mut self.writer);
        let is_flushed = self.writer.flush();
        self.watch_room(is_full || !is_flushed)
    }

    /// Watches for room on the wire only when it is wanted: every frame that the guest takes makes
    /// some.
    fn watch_room(&mut self, is_wanted: bool) -> io::Result<()> {
        if self.watches_room == is_wanted {
            return Ok(());
        }
        self.watches_room = is_wanted;
        let readable = Interest::READABLE;
        let interest = if is_wanted { readable | Interest::WRITABLE } else { readable };
        let mut source = SourceFd(&self.socket.as_raw_fd());
        self.poll.registry().reregister(&mut source, Source::Wire.token(), interest)
    }

    fn receive(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..FRAMES_PER_TURN {
            let Some((frame, meta)) = self.reader.next()? else { break };
            self.stack.receive(now, frame, meta, &mut self.writer);
        }
        Ok(())
    }

    /// How long there is nothing to do.
    fn timeout(&self) -> Option<Duration> {
        if self.reader.is_ready || self.relays.has_work() || self.datagrams.has_work() {
            return Some(Duration::ZERO);
        }
        let now = self.now();
        let retry = self.relays.has_waiting().then_some(ACCEPT_RETRY);
        let deadlines = [self.stack.next_deadline(), self.datagrams.next_deadline()];
        let until = |deadline: Instant| Duration::from(time_until(now, deadline));
        deadlines.into_iter().flatten().map(until).chain(retry).min()
    }

    fn now(&self) -> Instant {
        let elapsed = self.started.elapsed().as_micros();
        Instant::from_micros(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }
}

fn time_until(now: Instant, deadline: Instant) -> paravane_netstack::Duration {
    if deadline > now { deadline - now } else { paravane_netstack::Duration::ZERO }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn configuration(addresses: &Addresses) -> io::Result<Config> {
    let mut seed = [0; 8];
    getrandom(&mut seed, GetRandomFlags::empty())?;
    let lease = Lease {
        address: addresses.gateway,
        prefix_len: addresses.prefix_len,
        gateway: None,
        dns: None,
    };
    Ok(Config {
        mac: GATEWAY_MAC,
        mtu: MTU,
        offloads: Offloads::default(),
        addressing: Addressing::Static(lease),
        addressing6: Addressing6::Off,
        any_ip: true,
        connections_max: CONNECTIONS_MAX,
        buffers: BUFFERS,
        seed: u64::from_le_bytes(seed),
    })
}
