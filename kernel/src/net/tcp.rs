//! TCP listeners and streams.
use super::error::NetError;
use super::with_stack;
use bytes::Bytes;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use paravane_netstack::{ConnectionId, Flow, ListenerId, Stack, TcpError};

/// Most connections of a listener that are half-open, and again that wait to be accepted.
const BACKLOG: usize = 1024;

/// A port that takes connections. Dropping it closes the port and resets connections that nobody
/// accepted.
#[derive(Debug)]
pub struct TcpListener {
    id: ListenerId,
}

impl TcpListener {
    /// Listens on `port`, at the interface's address.
    ///
    /// # Errors
    /// The port is 0 or in use, or there is no network.
    pub fn bind(port: u16) -> Result<Self, NetError> {
        let id = with_stack(|stack| stack.listen(port, BACKLOG))??;
        Ok(Self { id })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// The network device failed.
    pub async fn accept(&self) -> Result<TcpStream, NetError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept), for hand-written futures.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TcpStream, NetError>> {
        let poll = with_stack(|stack| {
            stack.poll_accept(self.id, cx).map(|id| id.and_then(|id| TcpStream::new(stack, id)))
        })?;
        poll.map(|stream| stream.ok_or(NetError::Tcp(TcpError::NotConnected)))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        // Without a stack the port is closed anyway.
        let _ = with_stack(|stack| stack.close_listener(self.id));
    }
}

/// A TCP connection. Dropping it closes the connection: in order if all that arrived was read, with
/// a reset otherwise.
#[derive(Debug)]
pub struct TcpStream {
    id: ConnectionId,
    flow: Flow,
}

impl TcpStream {
    fn new(stack: &Stack, id: ConnectionId) -> Option<Self> {
        stack.flow(id).map(|flow| Self { id, flow })
    }

    /// Connects to `remote`.
    ///
    /// # Errors
    /// The peer refused, did not answer or cannot be reached.
    pub async fn connect(remote: SocketAddr) -> Result<Self, NetError> {
        super::wait_route(remote.ip()).await?;
        let stream = with_stack(|stack| {
            let id = stack.connect(remote, None)?;
            Self::new(stack, id).ok_or(TcpError::NotConnected)
        })??;
        poll_fn(|cx| stream.poll(|stack| stack.poll_connected(stream.id, cx))).await?;
        Ok(stream)
    }

    /// Reads what has arrived, and returns how many bytes; 0 when the peer has finished.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, NetError>> {
        self.poll_read_with(cx, |bytes| {
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            len
        })
    }

    /// Shows `f` a piece of what has arrived, without a copy; it returns how many bytes it takes off
    /// the front, and so does this function; 0 also when the peer has finished. `f` cannot use the
    /// network.
    pub fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<Result<usize, NetError>> {
        let take = |bytes: &mut [u8]| {
            let len = f(bytes).min(bytes.len());
            (len, len)
        };
        self.poll(|stack| stack.poll_recv(self.id, cx, take))
            .map_ok(|taken: Option<usize>| taken.unwrap_or(0))
    }

    /// Takes bytes to send, as many as there is room for and at least one, and returns how many.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, NetError>> {
        self.poll_write_vectored(cx, core::iter::once(bytes))
    }

    /// As [`poll_write`](Self::poll_write), from several pieces one after the other.
    pub fn poll_write_vectored<'a>(
        &mut self,
        cx: &mut Context<'_>,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Poll<Result<usize, NetError>> {
        let mut written = 0;
        for piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() {
                let len = match self.poll_write_with(cx, |room| copy_front(rest, room)) {
                    Poll::Ready(Ok(len)) => len,
                    // The error comes again with the next write.
                    _ if written > 0 => return Poll::Ready(Ok(written)),
                    other => return other,
                };
                rest = &rest[len..];
                written += len;
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Lets `f` write into free space of the transmit buffer, without a copy; it returns how many
    /// bytes it wrote, and so does this function. `f` cannot use the network.
    pub fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut [u8]) -> usize,
    ) -> Poll<Result<usize, NetError>> {
        let write = |room: &mut [u8]| {
            let len = f(room).min(room.len());
            (len, len)
        };
        self.poll(|stack| stack.poll_send(self.id, cx, write))
    }

    /// Takes bytes to send off the front of `bytes`, as many as there is room for and at least one,
    /// if there are any. Long ones are not copied: the device reads them where they are.
    pub fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), NetError>> {
        self.poll(|stack| stack.poll_send_bytes(self.id, cx, bytes))
    }

    /// Ready at once: what was written is sent when the tasks that are ready now have run.
    pub fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more will be written. Reading goes on.
    pub fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(with_stack(|stack| stack.shutdown(self.id)))
    }

    /// Waits until the peer has acknowledged all that was written.
    pub fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        self.poll(|stack| stack.poll_flushed(self.id, cx))
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(&mut self) {
        // Without a stack the connection is gone anyway.
        let _ = with_stack(|stack| stack.abort(self.id));
    }

    /// The other end.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.flow.remote_address()
    }

    /// This end.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.flow.local_address()
    }

    /// Waits for bytes and reads them, as [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    /// The connection ended other than by agreement.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, NetError> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The connection ended; nobody knows how much arrived.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = poll_fn(|cx| self.poll_write(cx, rest)).await?;
            rest = &rest[len..];
        }
        Ok(())
    }

    /// Tells the peer that nothing more will be written, as [`poll_close`](Self::poll_close).
    ///
    /// # Errors
    /// The network device failed.
    pub async fn close(&mut self) -> Result<(), NetError> {
        poll_fn(|cx| self.poll_close(cx)).await
    }

    fn poll<T>(
        &self,
        action: impl FnOnce(&mut Stack) -> Poll<Result<T, TcpError>>,
    ) -> Poll<Result<T, NetError>> {
        with_stack(action)?.map_err(NetError::Tcp)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        // Without a stack the connection is gone anyway.
        let _ = with_stack(|stack| stack.release(self.id));
    }
}

/// Copies as much of `from` to `to` as fits.
fn copy_front(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}
