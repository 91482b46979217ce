//! Name resolution, by smoltcp's DNS client in the set that also answers for no socket.
use crate::link::Link;
use crate::neighbors::Resolution;
use crate::port::FramePort;
use crate::stack::Stack;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::task::{Context, Poll};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::dns::{GetQueryResultError, QueryHandle, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{DnsQueryType, IpAddress, UdpPacket};

/// Most queries at a time.
const QUERIES_MAX: usize = 16;

/// Room for the longest query with its headers.
const QUERY_LEN_MAX: usize = 512;

const DNS_PORT: u16 = 53;

/// Names a query.
pub struct QueryId(QueryHandle);

impl core::fmt::Debug for QueryId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("QueryId(..)")
    }
}

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

#[derive(Debug)]
pub(crate) struct Resolver {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    server: Option<IpAddress>,
    active: usize,
    due: Option<Instant>,
}

impl Resolver {
    pub(crate) fn new() -> Self {
        let mut sockets = SocketSet::new(Vec::new());
        let queries: Vec<_> = (0..QUERIES_MAX).map(|_| None).collect();
        let handle = sockets.add(Socket::new(&[], queries));
        Self { sockets, handle, server: None, active: 0, due: None }
    }

    /// The set that packets for no socket are given to.
    pub(crate) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    pub(crate) fn set_server(&mut self, server: Option<IpAddress>) {
        self.server = server;
        let servers: Vec<_> = server.into_iter().collect();
        self.socket().update_servers(&servers);
    }

    /// Whether a datagram may be an answer to a query.
    pub(crate) fn takes(&self, datagram: &UdpPacket<&[u8]>, source: IpAddress) -> bool {
        self.active > 0 && datagram.src_port() == DNS_PORT && self.server == Some(source)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl Stack {
    /// Starts to look for the IPv4 addresses of `name`.
    ///
    /// # Errors
    /// The query cannot be started.
    pub fn start_query(&mut self, name: &str) -> Result<QueryId, DnsError> {
        if self.resolver.server.is_none() {
            return Err(DnsError::NoServer);
        }
        if self.resolver.active >= QUERIES_MAX {
            return Err(DnsError::Busy);
        }
        let cx = self.interface.context();
        let query = self.resolver.socket().start_query(cx, name, DnsQueryType::A);
        let handle = query.map_err(|_| DnsError::InvalidName)?;
        self.resolver.active += 1;
        self.resolver.due = Some(Instant::ZERO);
        Ok(QueryId(handle))
    }

    /// The result of a query. With the result, the query is over and its name is taken away.
    pub fn poll_query(
        &mut self,
        id: &mut Option<QueryId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<IpAddr>, DnsError>> {
        let Some(QueryId(handle)) = *id else { return Poll::Ready(Err(DnsError::NotFound)) };
        let socket = self.resolver.socket();
        let result = match socket.get_query_result(handle) {
            Ok(addresses) => Ok(addresses.into_iter().map(Into::into).collect()),
            Err(GetQueryResultError::Failed) => Err(DnsError::NotFound),
            Err(GetQueryResultError::Pending) => {
                socket.register_query_waker(handle, cx.waker());
                return Poll::Pending;
            }
        };
        *id = None;
        self.resolver.active -= 1;
        Poll::Ready(result)
    }

    /// Ends a query whose result nobody waits for.
    pub fn cancel_query(&mut self, id: QueryId) {
        self.resolver.socket().cancel_query(id.0);
        self.resolver.active -= 1;
    }

    /// Sends the queries that are due. Whether they all found room.
    pub(crate) fn send_queries(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        if self.resolver.active == 0 || self.resolver.due.is_none_or(|due| due > now) {
            return true;
        }
        let Some(server) = self.resolver.server else { return true };
        let destination = match self.resolve_mac(server, None, now) {
            Resolution::Known(mac) => mac,
            Resolution::Pending | Resolution::Unreachable => {
                self.resolver.due = Some(now + RESOLVE_RETRY);
                return true;
            }
        };
        for _ in 0..=QUERIES_MAX {
            let mut link = Link::sending(&self.link, port, destination, QUERY_LEN_MAX);
            self.interface.poll_egress(now, &mut link, &mut self.resolver.sockets);
            if link.is_full {
                return false;
            }
            self.resolver.due = self.interface.poll_at(now, &self.resolver.sockets);
            if self.resolver.due.is_none_or(|due| due > now) {
                break;
            }
        }
        true
    }
}

/// How often to look whether the server's Ethernet address is known.
const RESOLVE_RETRY: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(10);
