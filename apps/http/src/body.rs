//! Response bodies, and what happens when one ends.
use crate::access_log::Record;
use crate::connection::Exchange;
use crate::content::ChunkSource;
use crate::server::Shared;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Least piece of a body that is sent from where it is, bytes. Shorter ones are copied behind the head.
pub(crate) const LOAN_MIN: usize = 2 << 10;

/// Where a body's bytes come from.
pub(crate) enum Payload {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that come while they are sent, and how many.
    Stream(Box<dyn ChunkSource>, u64),
    /// No bytes, but the length that the answer to a GET would have: for HEAD.
    LengthOnly(u64),
}

impl Payload {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream(_, len) | Self::LengthOnly(len) => *len,
        }
    }
}

/// A response body in hyper's terms.
pub(crate) struct Body {
    payload: Payload,
    /// Bytes to come.
    rest: u64,
    completion: Completion,
}

impl Body {
    pub(crate) fn new(payload: Payload, completion: Completion) -> Self {
        Self { rest: payload.len(), payload, completion }
    }

    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.payload {
            Payload::Bytes(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Payload::Stream(stream, _) => poll_stream(&mut **stream, &self.completion.exchange, cx),
            Payload::LengthOnly(_) => Poll::Ready(None),
        }
    }
}

/// The next chunk of a stream, once the one before it has left.
fn poll_stream(
    stream: &mut dyn ChunkSource,
    exchange: &Exchange,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Result<Bytes>>> {
    if !exchange.may_send_chunk() {
        stream.prepare(cx);
        return Poll::Pending;
    }
    let chunk = ready!(stream.poll_chunk(cx));
    exchange.on_chunk();
    Poll::Ready(chunk)
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.rest == 0 {
            return Poll::Ready(None);
        }
        let chunk = ready!(self.poll_payload(cx)).transpose()?;
        // A body that ends early must end the connection: the length has been sent.
        let chunk = chunk.ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = chunk.len() as u64;
        if chunk.len() >= LOAN_MIN {
            self.completion.exchange.lend(&chunk);
        }
        self.rest = self.rest.saturating_sub(len);
        self.completion.body_len += len;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("rest", &self.rest).finish_non_exhaustive()
    }
}

/// Closes the books on a response, when its body is dropped: sent in full or not.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) shared: Rc<Shared>,
    pub(crate) exchange: Rc<Exchange>,
    pub(crate) record: Option<Box<Record>>,
    pub(crate) status: StatusCode,
    pub(crate) body_len: u64,
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.exchange.on_body_done();
        self.shared.metrics.count_response(self.status);
        self.shared.metrics.body_bytes.add(self.body_len);
        if let Some(record) = &self.record {
            self.shared.access_log.finish(record, self.status, self.body_len);
        }
    }
}
