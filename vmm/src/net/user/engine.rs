//! The loop: frames, sockets and timers, one after the other, on one thread.
use super::UserNetworkError;
use super::addresses::Addresses;
use super::datagrams::Datagrams;
use super::port::{Inbox, Outbox};
use super::publish::{Protocol, Publish};
use super::relays::Relays;
use super::token::Source;
use crate::net::wire::{End, Takes, Wants};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, Instant, Lease, Offloads, Stack,
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::os::fd::AsRawFd;
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
    wire: End,
    inbox: Inbox,
    outbox: Outbox,
    addresses: Addresses,
    /// There once the guest's driver is: it tells what it takes, and would miss what is sent earlier.
    stack: Option<Stack>,
    relays: Relays,
    datagrams: Datagrams,
    /// The stack has more to send than there is room on the wire.
    is_full: bool,
    /// The guest's end of the wire is closed.
    is_over: bool,
    started: time::Instant,
}

impl Engine {
    /// Opens the published ports.
    pub(super) fn new(
        addresses: Addresses,
        publish: &[Publish],
        wire: End,
    ) -> Result<Self, UserNetworkError> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        for (descriptor, source) in
            [(wire.bell(), Source::Wire), (wire.life_line(), Source::LifeLine)]
        {
            let descriptor = descriptor.as_raw_fd();
            let mut descriptor = SourceFd(&descriptor);
            registry.register(&mut descriptor, source.token(), Interest::READABLE)?;
        }
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
            wire,
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            addresses,
            stack: None,
            relays,
            datagrams,
            is_full: false,
            is_over: false,
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
    /// The poller failed, or the guest has broken the wire.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let result = self.run_open();
        self.wire.close();
        result
    }

    fn run_open(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.is_over {
            self.turn()?;
            self.wait(&mut events, self.timeout())?;
        }
        Ok(())
    }

    /// Does what is ready now, for tests.
    #[cfg(test)]
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.wait(&mut Events::with_capacity(EVENTS_PER_TURN), Some(Duration::ZERO))?;
        self.turn()
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let result = self.poll.poll(events, timeout);
        self.wire.disarm();
        match result {
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
            // Its bell never needs to be silenced: each ringing is an event (epoll(7), EPOLLET), and
            // each turn looks at the wire anyway.
            Source::Wire => {}
            Source::LifeLine => self.is_over |= event.is_read_closed(),
            Source::Listener(index) => self.relays.note_listener(index),
            Source::Relay(key) => self.relays.note_relay(key, event),
            source => self.datagrams.note(source),
        }
    }

    /// One turn: everything that is ready does a bounded share of its work.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.now();
        if self.stack.is_none()
            && let Some(takes) = self.wire.guest_takes()
        {
            self.stack = Some(Stack::new(configuration(&self.addresses, takes)?, now));
        }
        let Some(stack) = &mut self.stack else { return Ok(()) };
        let mut port = self.outbox.port(&mut self.wire.outgoing);
        for _ in 0..FRAMES_PER_TURN {
            let Some((frame, meta)) = self.inbox.next(&mut self.wire.incoming)? else { break };
            stack.receive(now, frame, meta, &mut port);
        }
        let registry = self.poll.registry();
        self.relays.take_offers(stack, registry);
        self.relays.accept(stack, registry);
        self.relays.advance(stack, now);
        self.datagrams.take_from_guest(stack, registry, now);
        self.datagrams.take_from_host(stack, now);
        self.datagrams.forget_silent(now);
        self.is_full = stack.poll(now, &mut port);
        self.wire.wake_peer();
        Ok(())
    }

    /// How long there is nothing to do; nothing of that is missed from here on.
    fn timeout(&self) -> Option<Duration> {
        let stack = self.stack.as_ref()?;
        let wants = Wants { messages: true, room: self.is_full };
        if self.relays.has_work() || self.datagrams.has_work() || !self.wire.arm(wants) {
            return Some(Duration::ZERO);
        }
        let now = self.now();
        let retry = self.relays.has_waiting().then_some(ACCEPT_RETRY);
        let deadlines = [stack.next_deadline(), self.datagrams.next_deadline()];
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

fn configuration(addresses: &Addresses, takes: Takes) -> io::Result<Config> {
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
        offloads: Offloads {
            tx_checksum: takes.partial_checksums,
            tx_segmentation: takes.large_segments,
            tx_segmentation6: false,
        },
        addressing: Addressing::Static(lease),
        addressing6: Addressing6::Off,
        any_ip: true,
        connections_max: CONNECTIONS_MAX,
        buffers: BUFFERS,
        seed: u64::from_le_bytes(seed),
    })
}
