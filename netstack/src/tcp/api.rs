//! TCP connections as the application sees them.
use super::control::{State, Tcb};
use crate::buffers::BufferBudget;
use crate::connection::{Connection, ConnectionId, Owner};
use crate::flow::Flow;
use crate::slab::SlabKey;
use crate::stack::Stack;
use bytes::Bytes;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

/// Ports that outgoing connections use (RFC 6335, 6): first and count.
const EPHEMERAL_FIRST: u16 = 49152;
const EPHEMERAL_COUNT: u16 = u16::MAX - EPHEMERAL_FIRST + 1;

/// Why a connection does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpError {
    /// The name is not that of a connection, or our side has closed it.
    NotConnected,
    /// The peer refused the connection.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer did not answer in time.
    TimedOut,
    /// There is no way to the address, or nobody there.
    Unreachable,
    /// The interface has no address yet.
    NotConfigured,
    /// As many connections as the stack is allowed, or all ports taken.
    TooManyConnections,
    /// The connection from this local address to this peer exists.
    InUse,
    /// There is no memory for what was written.
    NoMemory,
}

impl core::fmt::Display for TcpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "the connection is closed",
            Self::Refused => "the peer refused the connection",
            Self::Reset => "the peer reset the connection",
            Self::TimedOut => "the peer did not answer in time",
            Self::Unreachable => "the address cannot be reached",
            Self::NotConfigured => "the network has no address yet",
            Self::TooManyConnections => "there are too many connections",
            Self::InUse => "the connection exists already",
            Self::NoMemory => "there is no memory for more data",
        })
    }
}

impl core::error::Error for TcpError {}

impl Stack {
    /// Starts a connection to `remote` from `local`, or from the interface's address and a free port.
    /// [`poll_connected`](Self::poll_connected) tells how it went.
    ///
    /// # Errors
    /// The connection cannot be started.
    pub fn connect(
        &mut self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<ConnectionId, TcpError> {
        if self.connections.len() >= self.connections_max {
            return Err(TcpError::TooManyConnections);
        }
        let local = match local {
            Some(local) => local,
            None => self.ephemeral_address(remote)?,
        };
        let flow = Flow::new(
            (IpAddress::from(local.ip()), local.port()),
            (IpAddress::from(remote.ip()), remote.port()),
        );
        if self.flows.contains_key(&flow) {
            return Err(TcpError::InUse);
        }
        let is_mixed = local.is_ipv4() != remote.is_ipv4();
        if is_mixed || !flow.remote.addr.is_unicast() || flow.remote.port == 0 {
            return Err(TcpError::Unreachable);
        }
        let tcb = Tcb::connect(&self.opening(&flow, self.now), self.now);
        let key = self
            .add_connection(flow, tcb, Owner::Application)
            .ok_or(TcpError::TooManyConnections)?;
        self.mark_dirty(key);
        Ok(ConnectionId(key))
    }

    /// A local address for a connection to `remote` that neither exists nor is in TIME-WAIT.
    fn ephemeral_address(&mut self, remote: SocketAddr) -> Result<SocketAddr, TcpError> {
        let address = self.source_for(remote.ip()).ok_or(TcpError::NotConfigured)?;
        let remote = (IpAddress::from(remote.ip()), remote.port());
        let start = self.random();
        for offset in 0..u64::from(EPHEMERAL_COUNT) {
            let step = start.wrapping_add(offset) % u64::from(EPHEMERAL_COUNT);
            let port = EPHEMERAL_FIRST + u16::try_from(step).unwrap_or(0);
            let flow = Flow::new((address.into(), port), remote);
            if !self.flows.contains_key(&flow) && !self.tombstones.contains(&flow) {
                return Ok(SocketAddr::new(address, port));
            }
        }
        Err(TcpError::TooManyConnections)
    }

    /// Waits until a connection is established.
    pub fn poll_connected(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TcpError>> {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Poll::Ready(Err(TcpError::NotConnected));
        };
        let tcb = &mut connection.tcb;
        match tcb.state() {
            state if state.is_opening() => {
                tcb.wait_to_send(cx.waker());
                Poll::Pending
            }
            State::Closed => Poll::Ready(Err(ended(tcb))),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Lets `f` take bytes off the front of what was received in order; it returns how many, and
    /// anything else. `None` when the peer has finished and everything was taken.
    pub fn poll_recv<R>(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<Result<Option<R>, TcpError>> {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Poll::Ready(Err(TcpError::NotConnected));
        };
        let tcb = &mut connection.tcb;
        let front = tcb.front_mut();
        if !front.is_empty() {
            let (len, result) = f(front);
            if tcb.consume(len, &mut self.buffers) {
                self.mark_dirty(id.0);
            }
            return Poll::Ready(Ok(Some(result)));
        }
        if tcb.is_read_to_the_end() {
            return Poll::Ready(Ok(None));
        }
        if tcb.state() == State::Closed {
            return Poll::Ready(Err(ended(tcb)));
        }
        tcb.wait_to_receive(cx.waker());
        Poll::Pending
    }

    /// Lets `f` write into free space of the send queue; it returns how many bytes it wrote, and
    /// anything else. They are sent in the next [`poll`](Self::poll).
    pub fn poll_send<R>(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<Result<R, TcpError>> {
        self.send_with(id, cx, |tcb, room, budget| {
            let queue = tcb.send_queue_mut();
            queue.write(room, budget, f).ok_or(TcpError::NoMemory)
        })
    }

    /// Takes bytes to send off the front of `bytes`, as many as there is room for and at least one,
    /// if there are any. Long ones are not copied: the device reads them where they are.
    pub fn poll_send_bytes(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), TcpError>> {
        self.send_with(id, cx, |tcb, room, budget| {
            let front = bytes.split_to(room.min(bytes.len()));
            tcb.send_queue_mut().push(front, budget).ok_or(TcpError::NoMemory)
        })
    }

    /// Lets `write` write when there is room, to as much room as there is.
    fn send_with<R>(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Tcb, usize, &mut BufferBudget) -> Result<R, TcpError>,
    ) -> Poll<Result<R, TcpError>> {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Poll::Ready(Err(TcpError::NotConnected));
        };
        let tcb = &mut connection.tcb;
        if !tcb.may_send() {
            return Poll::Ready(Err(ended(tcb)));
        }
        let room = tcb.send_room(&self.buffers);
        if room == 0 {
            tcb.wait_to_send(cx.waker());
            return Poll::Pending;
        }
        let result = write(tcb, room, &mut self.buffers);
        self.mark_dirty(id.0);
        Poll::Ready(result)
    }

    /// Waits until the peer has acknowledged everything that was written.
    pub fn poll_flushed(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TcpError>> {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Poll::Ready(Err(TcpError::NotConnected));
        };
        let tcb = &mut connection.tcb;
        if let Some(failure) = tcb.failure() {
            return Poll::Ready(Err(failure));
        }
        if tcb.unacknowledged_len() == 0 {
            return Poll::Ready(Ok(()));
        }
        tcb.wait_to_send(cx.waker());
        Poll::Pending
    }

    /// Says that nothing more will be written; what was written is still delivered, and receiving
    /// goes on.
    pub fn shutdown(&mut self, id: ConnectionId) {
        self.with_connection(id, |connection, budget| connection.tcb.finish(budget));
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(&mut self, id: ConnectionId) {
        self.with_connection(id, |connection, budget| {
            connection.tcb.fail(TcpError::NotConnected, budget);
        });
    }

    /// Lets go of a connection: it is closed in order if all was received and read, and reset
    /// otherwise. The name is not valid any more.
    pub fn release(&mut self, id: ConnectionId) {
        self.with_connection(id, |connection, budget| {
            connection.owner = Owner::Nobody;
            if connection.tcb.ready_len() > 0 {
                connection.tcb.fail(TcpError::NotConnected, budget);
            } else {
                connection.tcb.finish(budget);
            }
        });
    }

    /// Both ends of a connection.
    #[must_use]
    pub fn flow(&self, id: ConnectionId) -> Option<Flow> {
        self.connections.get(id.0).map(|c| c.flow)
    }

    fn with_connection(
        &mut self,
        id: ConnectionId,
        f: impl FnOnce(&mut Connection, &mut BufferBudget),
    ) {
        if let Some(connection) = self.connections.get_mut(id.0) {
            f(connection, &mut self.buffers);
            self.mark_dirty(id.0);
        }
    }

    /// Puts a connection into the queue of those to poll.
    pub(crate) fn mark_dirty(&mut self, key: SlabKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !core::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push_back(key);
        }
    }

    /// After a connection has sent what it had: moves it on if it is over.
    pub(crate) fn settle(&mut self, key: SlabKey, now: Instant) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.owner != Owner::Nobody {
            return;
        }
        let tcb = &connection.tcb;
        let is_buried = tcb.state() == State::TimeWait;
        if is_buried {
            self.tombstones.insert(connection.flow, tcb.progress(), now);
        }
        if is_buried || tcb.is_finished() {
            self.remove_connection(key);
        }
    }
}

/// Why a connection that is over does not do what was asked.
fn ended(tcb: &Tcb) -> TcpError {
    tcb.failure().unwrap_or(TcpError::NotConnected)
}
