//! The stack itself: its state, and the poll.
use crate::any::AnyIp;
use crate::buffers::BufferBudget;
use crate::config::{Addressing, Config, Lease};
use crate::connection::{Connection, Owner};
use crate::dhcp::DhcpClient;
use crate::dns::Resolver;
use crate::flow::{Flow, SeededMap, mix, seeded_map};
use crate::icmp::ErrorBudget;
use crate::ipv6::Ipv6;
use crate::link::LinkConfig;
use crate::listener::Listeners;
use crate::neighbors::{Neighbors, Resolution};
use crate::port::FramePort;
use crate::secret::Secret;
use crate::slab::{Slab, SlabKey};
use crate::tcp::TcpError;
use crate::tcp::handshake::HalfOpens;
use crate::tcp::header::Route;
use crate::tcp::output::{Output, Sent};
use crate::timer::TimerHeap;
use crate::tombstone::Tombstones;
use crate::udp::Udp;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::task::{Context, Poll, Waker};
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

/// Smallest and largest IP packet that a link may have as its limit, bytes: what every machine takes
/// (RFC 791, 3.1), and what the length field can say.
pub(crate) const MTU_MIN: usize = 576;
const MTU_MAX: usize = 65535;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub frames_received: u64,
    /// Received frames that were malformed, not for us, or had a wrong checksum.
    pub frames_dropped: u64,
    /// Connections refused because there were too many.
    pub connections_refused: u64,
    /// Half-open connections whose time was over.
    pub half_open_dropped: u64,
    /// IPv6 addresses given up because another machine has them.
    pub addresses_lost: u64,
    /// SYNs answered with a cookie, as the backlog was full.
    pub cookies_sent: u64,
}

/// A TCP/IP stack on one Ethernet interface.
pub struct Stack {
    pub(crate) link: LinkConfig,
    pub(crate) lease: Option<Lease>,
    pub(crate) ipv6: Ipv6,
    /// The address given up last, until the owner has heard of it.
    pub(crate) conflict: Option<Ipv6Addr>,
    pub(crate) error_budget: ErrorBudget,
    pub(crate) dhcp: Option<DhcpClient>,
    pub(crate) resolver: Resolver,
    pub(crate) neighbors: Neighbors,
    pub(crate) connections: Slab<Connection>,
    pub(crate) connections_max: usize,
    pub(crate) flows: SeededMap<Flow, SlabKey>,
    pub(crate) listeners: Listeners,
    pub(crate) half_open: HalfOpens,
    pub(crate) secret: Secret,
    pub(crate) tombstones: Tombstones,
    pub(crate) buffers: BufferBudget,
    pub(crate) timers: TimerHeap,
    /// Connections with something to send or to find out.
    pub(crate) dirty: VecDeque<SlabKey>,
    pub(crate) udp: Udp,
    pub(crate) any: Option<AnyIp>,
    pub(crate) counters: Counters,
    configured_wakers: Vec<Waker>,
    /// The time of the last poll or frame.
    pub(crate) now: Instant,
    /// The last poll ended because the port was full.
    is_blocked: bool,
    draws: u64,
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack")
            .field("lease", &self.lease)
            .field("connections", &self.connections.len())
            .field("tombstones", &self.tombstones.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// How the poll of one connection ended.
enum Pumped {
    /// It has nothing to do until its deadline, which the timers know.
    Idle,
    /// It has more to send, and has had its share.
    Again,
    /// The port is full.
    Blocked,
    /// The peer's Ethernet address is not known yet.
    Unresolved,
    /// There is no way to the peer.
    Unreachable,
}

impl Stack {
    /// A stack that knows nobody yet.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let seed = config.seed;
        let mtu = config.mtu.clamp(MTU_MIN, MTU_MAX);
        let link = LinkConfig { mac: config.mac, mtu, offloads: config.offloads };
        let mut stack = Self {
            link,
            lease: None,
            ipv6: Ipv6::new(config.addressing6, config.mac, now),
            conflict: None,
            error_budget: ErrorBudget::new(now),
            dhcp: None,
            resolver: Resolver::new(),
            neighbors: Neighbors::new(mix(seed, 1)),
            connections: Slab::new(),
            connections_max: config.connections_max,
            flows: seeded_map(mix(seed, 2)),
            listeners: Listeners::new(mix(seed, 3)),
            half_open: HalfOpens::new(mix(seed, 10)),
            secret: Secret::new(seed),
            tombstones: Tombstones::new(mix(seed, 4)),
            buffers: BufferBudget::new(config.buffers),
            timers: TimerHeap::default(),
            dirty: VecDeque::new(),
            udp: Udp::new(mix(seed, 5)),
            any: config.any_ip.then(|| AnyIp::new(mix(seed, 6))),
            counters: Counters::default(),
            configured_wakers: Vec::new(),
            now,
            is_blocked: false,
            draws: 0,
        };
        match config.addressing {
            Addressing::Static(lease) => stack.configure(Some(lease)),
            Addressing::Dhcp => stack.dhcp = Some(DhcpClient::new(now)),
        }
        stack.addresses_changed();
        stack
    }

    /// The interface's IPv4 addresses, once it has them.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// The interface's IPv6 addresses.
    pub fn addresses6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.ipv6.addresses()
    }

    /// An address of the interface that machines beyond its link can know.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let address = self.lease.map(|lease| IpAddr::V4(lease.address));
        address.or(self.ipv6.global().map(IpAddr::V6))
    }

    /// An IPv6 address that was given up because another machine has it; each is told of once.
    pub fn take_conflict(&mut self) -> Option<Ipv6Addr> {
        self.conflict.take()
    }

    /// Waits until the interface has an [`address`](Self::address).
    pub fn poll_configured(&mut self, cx: &mut Context<'_>) -> Poll<IpAddr> {
        if let Some(address) = self.address() {
            return Poll::Ready(address);
        }
        self.configured_wakers.push(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until it is clear whether the interface can speak to `remote`: it has an address of the
    /// family, or none is to be expected.
    pub fn poll_route(&mut self, remote: IpAddr, cx: &mut Context<'_>) -> Poll<()> {
        let is_clear = match remote {
            IpAddr::V4(_) => self.lease.is_some() || self.dhcp.is_none(),
            IpAddr::V6(remote) => {
                remote.is_unicast_link_local()
                    || self.ipv6.global().is_some()
                    || self.ipv6.is_settled()
            }
        };
        if is_clear {
            return Poll::Ready(());
        }
        self.configured_wakers.push(cx.waker().clone());
        Poll::Pending
    }

    /// The interface's address to speak to `remote` from.
    pub(crate) fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        match remote {
            IpAddr::V4(_) => self.lease.map(|lease| IpAddr::V4(lease.address)),
            IpAddr::V6(remote) => self.ipv6.source_for(remote).map(IpAddr::V6),
        }
    }

    /// Largest IP packet that the link takes to or from `address`, bytes.
    pub(crate) fn mtu(&self, address: IpAddress) -> usize {
        match address {
            IpAddress::Ipv4(_) => self.link.mtu,
            IpAddress::Ipv6(_) => self.ipv6.mtu().unwrap_or(self.link.mtu),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Number of TCP connections, half-open ones included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len() + self.half_open.len()
    }

    /// Bytes that the queues of TCP connections take.
    #[must_use]
    pub fn buffers_used(&self) -> usize {
        self.buffers.used()
    }

    /// Sends what there is to send and lets time pass. Returns `true` if the port was full: call
    /// again when it has room.
    pub fn poll(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        self.now = now;
        self.expire(now);
        self.expire_half_open(now, port);
        self.poll_dhcp(now);
        self.poll_queries(now);
        self.is_blocked = !self.send_all(now, port);
        self.is_blocked
    }

    /// When to call [`poll`](Self::poll) next, even if nothing happens until then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.is_blocked && self.has_output() {
            return Some(Instant::ZERO);
        }
        let dhcp = self.dhcp.as_ref().map(DhcpClient::next_deadline);
        let deadlines = [
            self.timers.next(),
            self.half_open.next_deadline(),
            self.ipv6.next_deadline(),
            self.neighbors.next_deadline(),
            self.buffers.next_deadline(),
            self.resolver.next_deadline(),
            dhcp,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn has_output(&self) -> bool {
        let is_any = self.any.as_ref().is_some_and(AnyIp::has_output);
        !self.dirty.is_empty() || self.udp.has_output() || is_any
    }

    /// Ends what has waited too long, and finds the connections that are due.
    fn expire(&mut self, now: Instant) {
        self.tombstones.expire(now);
        self.buffers.expire(now);
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if self.timers.is_due(key, &mut connection.deadline, at, now) {
                self.mark_dirty(key);
            }
        }
        let connections = &self.connections;
        self.timers.tidy(connections.len(), |key| connections.get(key).map(|c| &c.deadline));
        while let Some((address, waiting)) = self.neighbors.give_up(now) {
            if let IpAddress::Ipv6(address) = address {
                self.ipv6.neighbor_lost(address);
            }
            for key in waiting {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.tcb.fail(TcpError::Unreachable, &mut self.buffers);
                    self.mark_dirty(key);
                }
            }
        }
    }

    /// Whether everything found room.
    fn send_all(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        self.send_discovery(now, port)
            && self.send_solicitations(now, port)
            && self.send_refusals(port)
            && self.send_datagrams(now, port)
            && self.pump_all(now, port)
            // Connections and datagrams may have asked for addresses just now.
            && self.send_solicitations(now, port)
    }

    fn pump_all(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.is_dirty = false;
            match self.pump(key, now, port) {
                Pumped::Idle => self.settle(key, now),
                Pumped::Again => self.mark_dirty(key),
                Pumped::Blocked => {
                    self.mark_dirty(key);
                    return false;
                }
                Pumped::Unresolved => {}
                Pumped::Unreachable => self.give_up(key),
            }
        }
        true
    }

    /// Lets one connection send what it has, and notes when it has more to do.
    fn pump(&mut self, key: SlabKey, now: Instant, port: &mut dyn FramePort) -> Pumped {
        let destination = match self.connection_mac(key, now) {
            Resolution::Known(mac) => mac,
            Resolution::Pending => return Pumped::Unresolved,
            Resolution::Unreachable => return Pumped::Unreachable,
        };
        let Some(connection) = self.connections.get_mut(key) else { return Pumped::Idle };
        let patience_ends = connection.patience_ends(now);
        if patience_ends.is_some_and(|at| at <= now) {
            connection.tcb.fail(TcpError::TimedOut, &mut self.buffers);
        }
        let route =
            Route { link: &self.link, destination_mac: destination, flow: &connection.flow };
        let sent = connection.tcb.send(&mut Output { route, port, budget: &self.buffers, now });
        match sent {
            Sent::Blocked => return Pumped::Blocked,
            Sent::More => return Pumped::Again,
            Sent::All => {}
        }
        // What was sent may be waited for.
        let patience_ends = connection.patience_ends(now);
        let due = [connection.tcb.deadline(), patience_ends].into_iter().flatten().min();
        self.timers.set(key, &mut connection.deadline, due);
        Pumped::Idle
    }

    /// The Ethernet address to send a connection's packets to; starts to look for it if need be.
    fn connection_mac(&mut self, key: SlabKey, now: Instant) -> Resolution {
        let Some(connection) = self.connections.get(key) else { return Resolution::Unreachable };
        let remote = connection.flow.remote.addr;
        if let Some(mac) = connection.peer_mac {
            // The peer, or the way to it, may have moved, and said so to everyone but not here: what goes
            // unanswered goes every other time where its neighbours know it.
            let is_doubtful = connection.tcb.unanswered_count() % 2 == 1;
            let known = is_doubtful.then(|| self.resolve_mac(remote, None, now));
            let elsewhere = known.filter(|known| matches!(known, Resolution::Known(_)));
            return elsewhere.unwrap_or(Resolution::Known(mac));
        }
        let has_failed = connection.tcb.failure().is_some();
        match self.resolve_mac(remote, Some(key), now) {
            // It never got an answer, so nobody waits for the reset that it would send now.
            Resolution::Pending if has_failed => Resolution::Unreachable,
            resolution => resolution,
        }
    }

    /// Ends a connection whose peer cannot be sent anything, not even a reset.
    fn give_up(&mut self, key: SlabKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.tcb.fail(TcpError::Unreachable, &mut self.buffers);
        connection.tcb.forget_reset();
        if connection.owner == Owner::Nobody {
            self.remove_connection(key);
        }
    }

    /// Takes addresses into use, or loses them. An address that no machine can have counts as none.
    pub(crate) fn configure(&mut self, lease: Option<Lease>) {
        let lease = lease.filter(|l| is_unicast(l.address) && !l.is_broadcast(l.address));
        self.lease = lease;
        self.addresses_changed();
    }

    /// Follows a change of the interface's addresses, or of what goes with them.
    pub(crate) fn addresses_changed(&mut self) {
        let dns = self.lease.and_then(|l| l.dns).map(IpAddress::from);
        self.resolver.set_server(dns.or(self.ipv6.dns().map(IpAddress::from)));
        self.wake_configured();
    }

    /// Lets those look again who wait for an address.
    pub(crate) fn wake_configured(&mut self) {
        for waker in self.configured_wakers.drain(..) {
            waker.wake();
        }
    }

    /// A fresh pseudo-random number.
    pub(crate) fn random(&mut self) -> u64 {
        self.draws += 1;
        self.secret.draw(self.draws)
    }
}

/// Whether `address` can be that of one machine.
pub(crate) fn is_unicast(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}
