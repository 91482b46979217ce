//! One TCP connection: bytes between the guest's end in the stack and the host's socket.
//!
//! Nothing is stored in between: bytes go from the socket into the stack's buffer and the other way,
//! so that each side's window holds the other side back.
use super::signal::Signal;
use mio::event::Event;
use mio::net::TcpStream;
use paravane_netstack::{ConnectionId, Instant, PendingId, Stack};
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The guest's end.
#[derive(Debug, Clone, Copy)]
pub(super) enum GuestEnd {
    /// The guest wants it; the host's socket is not connected yet.
    Offered(PendingId),
    /// The guest has not answered yet.
    Connecting(ConnectionId),
    /// It is there.
    Open(ConnectionId),
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Over,
}

/// The end that failed.
enum Broken {
    Guest,
    Host,
}

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) stream: TcpStream,
    pub(super) signal: Arc<Signal>,
    waker: Waker,
    guest: GuestEnd,
    /// The host's socket may have something to read.
    can_read: bool,
    /// The host's end has finished or failed: reading goes on to the end.
    is_read_closed: bool,
    /// The host's socket may take something.
    can_write: bool,
    has_host_finished: bool,
    has_guest_finished: bool,
}

impl Relay {
    pub(super) fn new(stream: TcpStream, guest: GuestEnd, signal: Arc<Signal>) -> Self {
        let is_connected = !matches!(guest, GuestEnd::Offered(_));
        Self {
            stream,
            waker: signal.waker(),
            signal,
            guest,
            can_read: is_connected,
            is_read_closed: false,
            can_write: is_connected,
            has_host_finished: false,
            has_guest_finished: false,
        }
    }

    /// Notes what happened to the host's socket.
    pub(super) fn note(&mut self, event: &Event) {
        self.is_read_closed |= event.is_read_closed() || event.is_error();
        self.can_read |= event.is_readable() || self.is_read_closed;
        self.can_write |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.signal.raise();
    }

    /// Does what can be done now.
    pub(super) fn advance(&mut self, stack: &mut Stack, now: Instant) -> Progress {
        loop {
            match self.guest {
                GuestEnd::Offered(id) => match self.finish_connect() {
                    Ok(false) => return Progress::Waiting,
                    Ok(true) => match stack.accept_pending(id, now) {
                        Some(connection) => self.guest = GuestEnd::Open(connection),
                        None => return Progress::Over,
                    },
                    Err(_) => {
                        stack.refuse_pending(id);
                        return Progress::Over;
                    }
                },
                GuestEnd::Connecting(id) => {
                    match stack.poll_connected(id, &mut Context::from_waker(&self.waker)) {
                        Poll::Pending => return Progress::Waiting,
                        Poll::Ready(Ok(())) => self.guest = GuestEnd::Open(id),
                        Poll::Ready(Err(_)) => return self.end(stack, id, Some(Broken::Guest)),
                    }
                }
                GuestEnd::Open(id) => return self.transfer(stack, id),
            }
        }
    }

    /// Whether the host's socket is connected by now.
    fn finish_connect(&mut self) -> io::Result<bool> {
        if !self.can_write {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.can_read = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.can_write = false;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn transfer(&mut self, stack: &mut Stack, id: ConnectionId) -> Progress {
        let result = self.carry_to_host(stack, id).and_then(|()| self.carry_to_guest(stack, id));
        match result {
            Err(broken) => self.end(stack, id, Some(broken)),
            Ok(()) if self.has_host_finished && self.has_guest_finished => {
                self.end(stack, id, None)
            }
            Ok(()) => Progress::Waiting,
        }
    }

    fn carry_to_host(&mut self, stack: &mut Stack, id: ConnectionId) -> Result<(), Broken> {
        while self.can_write && !self.has_guest_finished {
            let stream = &mut self.stream;
            let write = |bytes: &mut [u8]| split(stream.write(bytes));
            match stack.poll_recv(id, &mut Context::from_waker(&self.waker), write) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Err(Broken::Guest),
                Poll::Ready(Ok(None)) => {
                    self.has_guest_finished = true;
                    // Fails only if the host's end is gone, which reading finds out.
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
                Poll::Ready(Ok(Some(result))) => {
                    self.can_write = proceed(result)?.is_some();
                }
            }
        }
        Ok(())
    }

    fn carry_to_guest(&mut self, stack: &mut Stack, id: ConnectionId) -> Result<(), Broken> {
        while self.can_read && !self.has_host_finished {
            let stream = &mut self.stream;
            let mut room = 0;
            let read = |bytes: &mut [u8]| {
                room = bytes.len();
                split(stream.read(bytes))
            };
            match stack.poll_send(id, &mut Context::from_waker(&self.waker), read) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Err(Broken::Guest),
                Poll::Ready(Ok(result)) => match proceed(result)? {
                    None => self.can_read = false,
                    Some(0) => {
                        self.has_host_finished = true;
                        stack.shutdown(id);
                    }
                    // Less than there was room for: the socket is empty, and new bytes or an end
                    // that is not known yet will be a new event (epoll(7)).
                    Some(len) => self.can_read = len == room || self.is_read_closed,
                },
            }
        }
        Ok(())
    }

    /// Lets go of the guest's end; the caller drops the host's. If one end failed, the other is reset.
    fn end(&mut self, stack: &mut Stack, id: ConnectionId, broken: Option<Broken>) -> Progress {
        match broken {
            None => {}
            Some(Broken::Host) => stack.abort(id),
            Some(Broken::Guest) => reset_on_drop(&self.stream),
        }
        stack.release(id);
        Progress::Over
    }
}

/// Makes the peer see a reset when `stream` is dropped.
pub(super) fn reset_on_drop(stream: &TcpStream) {
    // Fails only if the connection is gone already.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// What a system call did, in the two forms that the stack and we want to know.
fn split(result: io::Result<usize>) -> (usize, io::Result<usize>) {
    (*result.as_ref().unwrap_or(&0), result)
}

/// How many bytes went through; none if the socket is to be waited for.
fn proceed(result: io::Result<usize>) -> Result<Option<usize>, Broken> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(Broken::Host),
    }
}
