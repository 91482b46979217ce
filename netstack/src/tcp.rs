//! TCP connections as the application sees them.
use crate::connection::{Connection, ConnectionId, Owner, Path};
use crate::flow::Flow;
use crate::slab::SlabKey;
use crate::stack::Stack;
use bytes::{Buf, Bytes};
use core::net::SocketAddr;
use core::task::{Context, Poll};
use smoltcp::socket::tcp::{RecvError, State};
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
        let key =
            self.add_connection(flow, Owner::Application).ok_or(TcpError::TooManyConnections)?;
        let cx = self.interface.context();
        let connection = self.connections.get_mut(key).ok_or(TcpError::NotConnected)?;
        if connection.socket_mut().connect(cx, flow.remote, flow.local).is_err() {
            self.remove_connection(key);
            return Err(TcpError::Unreachable);
        }
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
        match connection.socket().state() {
            State::SynSent | State::SynReceived | State::Listen => {
                connection.socket_mut().register_send_waker(cx.waker());
                Poll::Pending
            }
            State::Closed => Poll::Ready(Err(connection.failure.unwrap_or(TcpError::NotConnected))),
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
        let failure = connection.failure;
        let socket = connection.socket_mut();
        if socket.can_recv() {
            let taken = socket.recv(f).map_err(|_| TcpError::NotConnected)?;
            self.mark_dirty(id.0); // The window may have opened.
            return Poll::Ready(Ok(Some(taken)));
        }
        if !socket.may_recv() && !is_opening(socket.state()) {
            return Poll::Ready(match socket.recv(|_| (0, ())) {
                Err(RecvError::Finished) => Ok(None),
                _ => Err(failure.unwrap_or(TcpError::NotConnected)),
            });
        }
        socket.register_recv_waker(cx.waker());
        Poll::Pending
    }

    /// Lets `f` write into free space of the transmit buffer; it returns how many bytes it wrote, and
    /// anything else. They are sent in the next [`poll`](Self::poll).
    pub fn poll_send<R>(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<Result<R, TcpError>> {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Poll::Ready(Err(TcpError::NotConnected));
        };
        let failure = connection.failure;
        let socket = connection.socket_mut();
        if socket.can_send() {
            let written = socket.send(f).map_err(|_| TcpError::NotConnected)?;
            self.mark_dirty(id.0);
            return Poll::Ready(Ok(written));
        }
        if !socket.may_send() && !is_opening(socket.state()) {
            return Poll::Ready(Err(failure.unwrap_or(TcpError::NotConnected)));
        }
        socket.register_send_waker(cx.waker());
        Poll::Pending
    }

    /// Takes bytes to send off the front of `bytes`, as many as there is room for and at least one,
    /// if there are any.
    pub fn poll_send_bytes(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), TcpError>> {
        let poll = self.poll_send(id, cx, |room| {
            let len = bytes.len().min(room.len());
            room[..len].copy_from_slice(&bytes[..len]);
            (len, len)
        });
        poll.map_ok(|len| bytes.advance(len))
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
        if let Some(failure) = connection.failure {
            return Poll::Ready(Err(failure));
        }
        if connection.socket().send_queue() == 0 {
            return Poll::Ready(Ok(()));
        }
        connection.socket_mut().register_send_waker(cx.waker());
        Poll::Pending
    }

    /// Says that nothing more will be written; what was written is still delivered, and receiving
    /// goes on.
    pub fn shutdown(&mut self, id: ConnectionId) {
        self.with_socket(id, |connection| connection.socket_mut().close());
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(&mut self, id: ConnectionId) {
        self.with_socket(id, |connection| connection.fail(TcpError::NotConnected));
    }

    /// Lets go of a connection: it is closed in order if all was received and read, and reset
    /// otherwise. The name is not valid any more.
    pub fn release(&mut self, id: ConnectionId) {
        self.with_socket(id, |connection| {
            connection.owner = Owner::Nobody;
            if connection.socket().recv_queue() > 0 {
                connection.fail(TcpError::NotConnected);
            } else {
                connection.socket_mut().close();
            }
        });
    }

    /// Both ends of a connection.
    #[must_use]
    pub fn flow(&self, id: ConnectionId) -> Option<Flow> {
        self.connections.get(id.0).map(|c| c.flow)
    }

    fn with_socket(&mut self, id: ConnectionId, f: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(id.0) {
            f(connection);
            self.mark_dirty(id.0);
        }
    }

    /// Adds a connection with a closed socket. `None` if there are too many for the memory.
    pub(crate) fn add_connection(&mut self, flow: Flow, owner: Owner) -> Option<SlabKey> {
        // In any-IP mode the peer is a guest on the same machine.
        let path = if self.any.is_some() { Path::SameMachine } else { Path::Network };
        let connection = Connection::new(self.buffers.socket()?, flow, owner, path);
        let key = self.connections.insert(connection)?;
        self.flows.insert(flow, key);
        Some(key)
    }

    /// Forgets a connection.
    pub(crate) fn remove_connection(&mut self, key: SlabKey) {
        let Some(connection) = self.connections.remove(key) else { return };
        self.flows.remove(&connection.flow);
        if let Owner::Backlog(listener, ordinal) = connection.owner {
            self.listeners.remove(listener, ordinal);
        }
        self.buffers.release(connection.into_socket());
    }

    /// Puts a connection into the queue of those to poll.
    pub(crate) fn mark_dirty(&mut self, key: SlabKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !core::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push_back(key);
        }
    }

    /// After a connection was polled: moves it on if it is over. `due` is its next deadline.
    pub(crate) fn settle(&mut self, key: SlabKey, due: Option<Instant>, now: Instant) {
        let Some(connection) = self.connections.get(key) else { return };
        let state = connection.socket().state();
        let is_ours = connection.owner != Owner::Application;
        let is_quiet = due.is_none_or(|due| due > now + TIME_WAIT_QUIET);
        let is_buried = state == State::TimeWait && connection.owner == Owner::Nobody && is_quiet;
        if is_buried && let Some(progress) = connection.progress {
            self.tombstones.insert(connection.flow, progress, now);
        }
        if is_buried || (is_ours && connection.is_finished()) {
            self.remove_connection(key);
        }
    }
}

/// In TIME-WAIT with a deadline farther away than this, smoltcp has nothing left but to wait: the
/// last acknowledgement, delayed by 10 ms at most, is out.
const TIME_WAIT_QUIET: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(1);

fn is_opening(state: State) -> bool {
    matches!(state, State::SynSent | State::SynReceived | State::Listen)
}
