//! The byte stream that hyper sees: keeps the exchange's state and deadlines up to date.
use super::exchange::{Exchange, Phase};
use crate::platform::{Clock, Transport};
use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes that one read takes from a connection at most.
const SCRATCH_LEN: usize = 16 << 10;

/// A buffer that all connections read through, one at a time: hyper's own may not be initialised,
/// and handing it out as a slice would need unsafe code. Heads and short bodies are put together in it.
pub(crate) type Scratch = Rc<RefCell<Box<[u8]>>>;

pub(crate) fn new_scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; SCRATCH_LEN].into()))
}

/// A transport under observation.
pub(super) struct Observed<'a, T, C> {
    pub(super) transport: T,
    /// Bytes that were read before, and come first.
    received: Bytes,
    exchange: &'a Exchange,
    clock: &'a C,
    scratch: &'a Scratch,
}

impl<'a, T: Transport, C: Clock> Observed<'a, T, C> {
    /// Watches `transport`.
    pub(super) fn new(
        transport: T,
        received: Bytes,
        exchange: &'a Exchange,
        clock: &'a C,
        scratch: &'a Scratch,
    ) -> Self {
        Self { transport, received, exchange, clock, scratch }
    }

    /// Whether what hyper writes is its automatic answer to a request that it cannot read: it then
    /// writes although no request is being answered. Such an answer is swallowed, for the driver
    /// gives a better one.
    fn swallows(&self) -> bool {
        let swallows = matches!(self.exchange.phase(), Phase::Idle | Phase::Head);
        if swallows {
            self.exchange.on_refused();
        }
        swallows
    }

    fn observe_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.exchange.on_write_blocked(self.clock.now_ns()),
            Poll::Ready(_) => self.exchange.on_written(),
        }
    }

    /// Writes one buffer after the other until the transport takes no more.
    fn write_all(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let (mut written, mut rest) = (0, bufs);
        while !rest.is_empty() {
            let (wanted, result);
            (wanted, rest, result) = self.write_front(cx, rest);
            match result {
                Poll::Ready(Ok(count)) => {
                    written += count;
                    if count < wanted {
                        break;
                    }
                }
                _ if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Writes the first of several buffers: a piece of a body from where it is, or as many others as
    /// the scratch buffer has room for, together. Returns how many bytes they have, the other buffers,
    /// and how many bytes were written.
    fn write_front<'b, 's>(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &'b [IoSlice<'s>],
    ) -> (usize, &'b [IoSlice<'s>], Poll<io::Result<usize>>) {
        let Some((first, rest)) = bufs.split_first() else { return (0, bufs, Poll::Ready(Ok(0))) };
        if let Some(mut loan) = self.exchange.loan(first) {
            let wanted = loan.len();
            let result = self.transport.poll_write_bytes(cx, &mut loan);
            return (wanted, rest, result.map_ok(|()| wanted - loan.len()));
        }
        let mut scratch = self.scratch.borrow_mut();
        let (mut len, mut count) = (0, 0);
        for buf in bufs {
            let Some(room) = scratch.get_mut(len..len + buf.len()) else { break };
            if count > 0 && self.exchange.loan(buf).is_some() {
                break;
            }
            room.copy_from_slice(buf);
            len += buf.len();
            count += 1;
        }
        if count < 2 {
            return (first.len(), rest, self.transport.poll_write(cx, first));
        }
        (len, &bufs[count..], self.transport.poll_write(cx, &scratch[..len]))
    }
}

impl<T: Transport, C: Clock> Read for Observed<'_, T, C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.received.is_empty() {
            let len = this.received.len().min(buf.remaining());
            buf.put_slice(&this.received.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let mut scratch = this.scratch.borrow_mut();
        let len = scratch.len().min(buf.remaining());
        let count = ready!(this.transport.poll_read(cx, &mut scratch[..len]))?;
        if count > 0 {
            this.exchange.on_read(this.clock.now_ns());
        }
        buf.put_slice(&scratch[..count]);
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport, C: Clock> Write for Observed<'_, T, C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.swallows() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = this.write_all(cx, bufs);
        this.observe_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.transport.poll_flush(cx))?;
        if this.exchange.on_chunk_sent() {
            cx.waker().wake_by_ref();
        }
        if this.exchange.is_ending() {
            this.exchange.on_flushed(this.clock.now_ns());
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing: the driver closes the transport, after an error answer where there is one to give.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
