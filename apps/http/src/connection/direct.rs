//! Answers to plain requests on a connection without a session.
//!
//! What arrives is read into the buffer that all connections share and answered from there, all of it
//! with one write. What is not understood goes to a session, with everything behind it.
use super::ending::Ending;
use super::exchange::Exchange;
use crate::platform::{BlockSource, Clock, Transport};
use crate::request::Unfit;
use crate::server::Server;
use crate::sessions::Session;
use bytes::Bytes;
use std::io;
use std::task::{Context, Poll, ready};

/// Responses are handed to the transport at this size at the latest, bytes.
const OUTPUT_LEN: usize = 8 << 10;

/// Reads of one connection before others have their turn.
const READS_MAX: usize = 4;

/// What follows when a connection does not just rest on.
pub(super) enum Step {
    End(Ending),
    Session(Handover),
}

/// What a session starts with.
pub(super) struct Handover {
    /// Bytes that were read already.
    pub(super) received: Bytes,
    /// Whether the session is for this request only: the next is likely to do without.
    pub(super) is_brief: bool,
}

/// What a client has not taken yet. Nothing more is read from it meanwhile.
///
/// It takes as much memory as a session, and a session's place: clients that take nothing cannot hold
/// more together than sessions may.
pub(super) struct Unsent<'a> {
    _place: Session<'a>,
    heads: Vec<u8>,
    /// Bytes of `heads` that are sent.
    sent: usize,
    /// Sent after them.
    body: Bytes,
    /// What was read behind the request answered last.
    input: Vec<u8>,
    closes: bool,
}

impl Unsent<'_> {
    fn len(&self) -> usize {
        self.heads.len() - self.sent + self.body.len()
    }
}

/// Why answering stopped.
enum Stop {
    /// What is answered so far is to be sent first.
    Full,
    /// Nothing is left.
    Rest,
    /// The connection ends with the last response.
    Close,
    Unfit(Unfit),
}

/// A connection at rest.
pub(super) struct Direct<'a, 's, C, B: BlockSource, T> {
    pub(super) server: &'s Server<C, B>,
    pub(super) exchange: &'a Exchange,
    pub(super) transport: &'a mut T,
    pub(super) unsent: &'a mut Option<Box<Unsent<'s>>>,
}

impl<C: Clock, B: BlockSource, T: Transport> Direct<'_, '_, C, B, T> {
    /// Answers requests until there is more to do than that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        for _ in 0..READS_MAX {
            // What is under way is finished first.
            if self.unsent.is_none() {
                if self.exchange.is_evicted() {
                    return Poll::Ready(Step::End(Ending::Evicted));
                } else if self.server.is_draining() {
                    return Poll::Ready(Step::End(Ending::Done));
                }
            }
            if let Some(step) = ready!(self.poll_once(cx)) {
                return Poll::Ready(step);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what is unsent, or else reads once, and answers what there is then.
    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Option<Step>> {
        if let Some(unsent) = self.unsent {
            if ready!(poll_unsent(self.transport, self.exchange, self.server, unsent, cx)).is_err()
            {
                return Poll::Ready(Some(Step::End(Ending::Broken)));
            }
            self.exchange.on_rest();
            self.exchange.on_flushed(self.server.clock.now_ns());
            let sent = self.unsent.take().filter(|sent| !sent.closes);
            let Some(sent) = sent else { return Poll::Ready(Some(Step::End(Ending::Done))) };
            return Poll::Ready(self.answer(&sent.input, cx));
        }
        let mut scratch = self.server.scratch.borrow_mut();
        Poll::Ready(match ready!(self.transport.poll_read(cx, &mut scratch)) {
            Ok(0) => Some(Step::End(Ending::Done)),
            Ok(count) => self.answer(&scratch[..count], cx),
            Err(_) => Some(Step::End(Ending::Broken)),
        })
    }

    /// Answers the requests in `rest`.
    fn answer(&mut self, mut rest: &[u8], cx: &mut Context<'_>) -> Option<Step> {
        let server = self.server;
        let mut output = server.output.borrow_mut();
        loop {
            output.clear();
            let mut body = Bytes::new();
            let stop = self.collect(&mut rest, &mut output, &mut body);
            if !output.is_empty() {
                let mut heads = &output[..];
                match poll_send(self.transport, &mut heads, &mut body, cx) {
                    Poll::Ready(Ok(())) => self.exchange.on_flushed(server.clock.now_ns()),
                    Poll::Ready(Err(_)) => return Some(Step::End(Ending::Broken)),
                    Poll::Pending => {
                        let closes = matches!(stop, Stop::Close);
                        return self.keep(heads, body, rest, closes);
                    }
                }
            }
            match stop {
                Stop::Full => {}
                Stop::Rest => return None,
                Stop::Close => return Some(Step::End(Ending::Done)),
                Stop::Unfit(why) => return Some(Step::Session(self.hand_over(rest, why))),
            }
        }
    }

    /// Appends responses to `output`, and takes their requests off the front of `rest`, until something
    /// is to be sent.
    fn collect(&self, rest: &mut &[u8], output: &mut Vec<u8>, body: &mut Bytes) -> Stop {
        while !rest.is_empty() {
            let answer = match self.server.plain(rest) {
                Ok(answer) => answer,
                Err(why) => return Stop::Unfit(why),
            };
            *rest = rest.get(answer.request_len()..).unwrap_or_default();
            *body = self.server.write_plain(&answer, self.transport.peer_address(), output);
            if answer.closes() {
                return Stop::Close;
            } else if !body.is_empty() || output.len() >= OUTPUT_LEN {
                return Stop::Full;
            }
        }
        Stop::Rest
    }

    /// Keeps what the client does not take now, if there is memory for it. If not, it is too late to
    /// say so.
    fn keep(&mut self, heads: &[u8], body: Bytes, input: &[u8], closes: bool) -> Option<Step> {
        let Some(place) = self.server.start_session(self.exchange) else {
            return Some(Step::End(Ending::Broken));
        };
        self.exchange.on_request(None);
        *self.unsent = Some(Box::new(Unsent {
            _place: place,
            heads: heads.to_vec(),
            sent: 0,
            body,
            input: input.to_vec(),
            closes,
        }));
        None
    }

    /// A session is to go on, from the first byte of a request.
    fn hand_over(&self, received: &[u8], why: Unfit) -> Handover {
        self.exchange.on_read(self.server.clock.now_ns());
        Handover { received: Bytes::copy_from_slice(received), is_brief: why == Unfit::Once }
    }
}

/// Sends on, and keeps the time by which the client must take something up to date.
fn poll_unsent<C: Clock, B: BlockSource, T: Transport>(
    transport: &mut T,
    exchange: &Exchange,
    server: &Server<C, B>,
    unsent: &mut Unsent<'_>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let len = unsent.len();
    let mut heads = &unsent.heads[unsent.sent..];
    let result = poll_send(transport, &mut heads, &mut unsent.body, cx);
    unsent.sent = unsent.heads.len() - heads.len();
    if unsent.len() < len || result.is_ready() {
        exchange.on_written();
    }
    if result.is_pending() {
        exchange.on_write_blocked(server.clock.now_ns());
    }
    result
}

/// Sends both, and takes what is sent off their fronts.
fn poll_send<T: Transport>(
    transport: &mut T,
    heads: &mut &[u8],
    body: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !heads.is_empty() {
        let count = ready!(transport.poll_write(cx, heads))?;
        *heads = heads.get(count..).unwrap_or_default();
    }
    while !body.is_empty() {
        ready!(transport.poll_write_bytes(cx, body))?;
    }
    transport.poll_flush(cx)
}
