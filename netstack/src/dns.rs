//! Name resolution (RFC 1035, RFC 3596): questions for the families that the interface has addresses
//! of, repeated until they are answered or nobody waits any more.
mod message;

use crate::neighbors::Resolution;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::task::{Context, Poll, Waker};
use message::Family;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, UdpPacket};

/// Most queries at a time.
const QUERIES_MAX: usize = 16;

/// First wait for an answer, doubled each time, and the number of questions.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const TRIES: u32 = 4;

/// How often to look whether the server's Ethernet address is known.
const RESOLVE_RETRY: Duration = Duration::from_millis(10);

/// How long that may take: longer than the neighbour cache asks for it.
const WAY_PATIENCE: Duration = Duration::from_secs(5);

/// How long the answer for one family waits for that of the other (RFC 8305, 3).
const OTHER_PATIENCE: Duration = Duration::from_millis(50);

const DNS_PORT: u16 = 53;

/// Names a query.
#[derive(Debug)]
pub struct QueryId(SlabKey);

/// Why a name was not resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// No server is configured, or it cannot be reached.
    NoServer,
    /// Not a name.
    InvalidName,
    /// Too many queries at a time.
    Busy,
    /// The server did not answer, or knows no such name.
    NotFound,
}

impl core::fmt::Display for DnsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoServer => "there is no DNS server",
            Self::InvalidName => "not a host name",
            Self::Busy => "too many names are being resolved",
            Self::NotFound => "the name could not be resolved",
        })
    }
}

impl core::error::Error for DnsError {}

/// A question that was not answered yet. Who answers has to know its number and port.
#[derive(Clone, Copy, Debug)]
struct Question {
    family: Family,
    id: u16,
    port: u16,
}

#[derive(Debug)]
struct Query {
    /// As it is written in messages.
    name: Vec<u8>,
    open: Vec<Question>,
    addresses: Vec<IpAddr>,
    /// When the open questions are asked next, or given up.
    next: Instant,
    wait: Duration,
    tries_left: u32,
    /// When to give up if the way to the server is not known by then.
    way_until: Option<Instant>,
    waker: Option<Waker>,
}

impl Query {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Resolver {
    queries: Slab<Query>,
    server: Option<IpAddress>,
    /// The names of the queries, none twice.
    active: Vec<SlabKey>,
}

impl Resolver {
    pub(crate) fn new() -> Self {
        Self { queries: Slab::new(), server: None, active: Vec::new() }
    }

    pub(crate) fn set_server(&mut self, server: Option<IpAddress>) {
        self.server = server;
    }

    /// Whether a datagram may be an answer to a query.
    pub(crate) fn takes(&self, datagram: &UdpPacket<&[u8]>, source: IpAddress) -> bool {
        let asks = |query: &Query| query.open.iter().any(|q| q.port == datagram.dst_port());
        datagram.src_port() == DNS_PORT
            && self.server == Some(source)
            && self.active.iter().filter_map(|&key| self.queries.get(key)).any(asks)
    }

    /// Takes an answer.
    pub(crate) fn receive(&mut self, now: Instant, datagram: &UdpPacket<&[u8]>) -> Option<()> {
        let port = datagram.dst_port();
        for &key in &self.active {
            let Some(query) = self.queries.get_mut(key) else { continue };
            for index in 0..query.open.len() {
                let Question { family, id, port: own } = query.open[index];
                if own != port {
                    continue;
                }
                let Some(found) = message::answer(datagram.payload(), id, &query.name, family)
                else {
                    continue;
                };
                query.addresses.extend(found);
                query.open.swap_remove(index);
                if query.open.is_empty() {
                    query.wake();
                } else if !query.addresses.is_empty() {
                    // The other family's answer may have a little time (RFC 8305, 3).
                    (query.tries_left, query.next) = (0, now + OTHER_PATIENCE);
                }
                return Some(());
            }
        }
        None
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let queries = self.active.iter().filter_map(|&key| self.queries.get(key));
        queries.filter(|query| !query.open.is_empty()).map(|query| query.next).min()
    }
}

impl Stack {
    /// Starts to look for the addresses of `name`, of the families that the interface has addresses of.
    ///
    /// # Errors
    /// The query cannot be started.
    pub fn start_query(&mut self, name: &str) -> Result<QueryId, DnsError> {
        if self.resolver.server.is_none() {
            return Err(DnsError::NoServer);
        }
        if self.resolver.active.len() >= QUERIES_MAX {
            return Err(DnsError::Busy);
        }
        let name = message::encode_name(name).ok_or(DnsError::InvalidName)?;
        let families = [self.lease.map(|_| Family::Ipv4), self.ipv6.global().map(|_| Family::Ipv6)];
        let open = families.into_iter().flatten().map(|family| self.question(family)).collect();
        let query = Query {
            name,
            open,
            addresses: Vec::new(),
            next: Instant::ZERO,
            wait: RETRY_FIRST,
            tries_left: TRIES,
            way_until: None,
            waker: None,
        };
        let key = self.resolver.queries.insert(query).ok_or(DnsError::Busy)?;
        self.resolver.active.push(key);
        Ok(QueryId(key))
    }

    fn question(&mut self, family: Family) -> Question {
        let [a, b, c, d, ..] = self.random().to_le_bytes();
        let port = u16::from_le_bytes([c, d]) | 0xc000; // A dynamic one (RFC 6335, 6).
        Question { family, id: u16::from_le_bytes([a, b]), port }
    }

    /// The result of a query. With the result, the query is over and its name is taken away.
    pub fn poll_query(
        &mut self,
        id: &mut Option<QueryId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<IpAddr>, DnsError>> {
        let Some(QueryId(key)) = *id else { return Poll::Ready(Err(DnsError::NotFound)) };
        if let Some(query) = self.resolver.queries.get_mut(key)
            && !query.open.is_empty()
        {
            query.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        *id = None;
        let mut addresses = self.end_query(key).map(|query| query.addresses).unwrap_or_default();
        if addresses.is_empty() {
            return Poll::Ready(Err(DnsError::NotFound));
        }
        // Unique local addresses lead nowhere far: then IPv4 is the better choice (RFC 6724, 2.1).
        let is_far = self.ipv6.global().is_some_and(|own| !own.is_unique_local());
        addresses.sort_by_key(|address| address.is_ipv6() != is_far);
        Poll::Ready(Ok(addresses))
    }

    /// Ends a query whose result nobody waits for.
    pub fn cancel_query(&mut self, id: QueryId) {
        self.end_query(id.0);
    }

    fn end_query(&mut self, key: SlabKey) -> Option<Query> {
        self.resolver.active.retain(|&active| active != key);
        self.resolver.queries.remove(key)
    }

    /// Queues the questions that are due as datagrams.
    pub(crate) fn poll_queries(&mut self, now: Instant) {
        if self.resolver.next_deadline().is_none_or(|due| due > now) {
            return;
        }
        // A datagram would wait for the server's Ethernet address as long as it takes.
        let server = self.resolver.server;
        let way = server.map(|server| (server, self.resolve_mac(server, None, now)));
        for index in 0..self.resolver.active.len() {
            let key = self.resolver.active[index];
            let Some(query) = self.resolver.queries.get_mut(key) else { continue };
            if query.open.is_empty() || query.next > now {
                continue;
            }
            match way {
                Some((_, Resolution::Pending))
                    if now < *query.way_until.get_or_insert(now + WAY_PATIENCE) =>
                {
                    query.next = now + RESOLVE_RETRY;
                }
                Some((server, Resolution::Known(_))) if query.tries_left > 0 => {
                    query.tries_left -= 1;
                    query.next = now + query.wait;
                    query.wait *= 2;
                    self.ask(key, server);
                }
                _ => {
                    query.open.clear();
                    query.wake();
                }
            }
        }
    }

    fn ask(&mut self, key: SlabKey, server: IpAddress) {
        let Some(query) = self.resolver.queries.get(key) else { return };
        let server = SocketAddr::new(server.into(), DNS_PORT);
        let message = |q: &Question| (q.port, message::question(q.id, &query.name, q.family));
        let messages: Vec<_> = query.open.iter().map(message).collect();
        for (port, message) in messages {
            if let Some(own) = self.source_for(server.ip()) {
                // Where there is no room, it is lost and asked again, like any datagram.
                let _sent = self.queue_datagram(SocketAddr::new(own, port), server, &message);
            }
        }
    }
}
