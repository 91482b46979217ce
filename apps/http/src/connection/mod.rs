//! One connection, from its first byte to its last.
mod exchange;
mod farewell;
mod stream;

pub(crate) use exchange::{Exchange, Phase, Waits};
pub(crate) use farewell::bid;
pub(crate) use stream::{Scratch, new_scratch};

use crate::body::Completion;
use crate::platform::{BlockSource, Clock, Transport};
use crate::request::{self, Answer, Refusal};
use crate::server::Server;
use exchange::NEVER;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use stream::Observed;

/// Longest piece of an unreadable request that goes to the log, bytes.
const LOGGED_LEN_MAX: usize = 256;

/// How HTTP on a connection ended.
enum Ending {
    /// In good order.
    Done,
    /// To make room.
    Evicted,
    /// The client is gone, or takes nothing any more.
    Broken,
    /// With a request that gets this last answer.
    Refused(StatusCode),
}

/// Serves a connection until it ends. The transport is closed or aborted then.
pub(crate) async fn run<C, B, T>(server: Rc<Server<C, B>>, exchange: Rc<Exchange>, transport: T)
where
    C: Clock + Unpin,
    B: BlockSource,
    T: Transport,
{
    let peer = transport.peer_address();
    let refused = Rc::new(Cell::new(false));
    let io = Observed::new(
        transport,
        Rc::clone(&exchange),
        server.clock.clone(),
        Rc::clone(&server.scratch),
        Rc::clone(&refused),
    );
    let service = service_fn({
        let (server, exchange) = (Rc::clone(&server), Rc::clone(&exchange));
        move |request| request::handle(Rc::clone(&server), Rc::clone(&exchange), peer, request)
    });
    let mut connection = server.http.serve_connection(io, service);
    let mut timer = Timer::new(server.clock.clone());
    let mut draining = false;
    let ending = poll_fn(|cx| {
        exchange.set_waker(cx.waker());
        if server.is_draining() && !std::mem::replace(&mut draining, true) {
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(result.map_or_else(Ended::Http, |()| Ended::Well));
        }
        if exchange.phase() == Phase::Idle {
            if exchange.is_evicted() {
                return Poll::Ready(Ended::Evicted);
            } else if draining {
                return Poll::Ready(Ended::Well);
            }
        }
        timer.poll(cx, &exchange).map(|()| Ended::TimedOut)
    })
    .await;
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let ending = match ending {
        Ended::Well => Ending::Done,
        Ended::Evicted => Ending::Evicted,
        Ended::Http(error) => classify(&error, &read_buf, refused.get()),
        Ended::TimedOut => server.time_out(&exchange),
    };
    finish(&server, &exchange, io.transport, ending, &read_buf).await;
}

/// Why the driver stopped.
enum Ended {
    Well,
    Evicted,
    Http(hyper::Error),
    TimedOut,
}

/// The status for a request that hyper could not read, or none if hyper's own answer or part of
/// another is on its way already.
fn classify(error: &hyper::Error, head: &[u8], refused: bool) -> Ending {
    if !error.is_parse() {
        return Ending::Broken;
    }
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let status = if error.is_parse_version_h2() || has_other_version(line) {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED
    } else if !error.is_parse_too_large() {
        StatusCode::BAD_REQUEST
    } else if line.len() == head.len() {
        StatusCode::URI_TOO_LONG
    } else {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    };
    if refused || error.is_parse_version_h2() { Ending::Refused(status) } else { Ending::Broken }
}

/// Whether a request line is one of HTTP, but not of HTTP/1.
fn has_other_version(line: &[u8]) -> bool {
    let version = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    match version.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) => {
            *major != b'1' && major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

impl<C: Clock, B> Server<C, B> {
    /// Counts a deadline that has passed and says what follows.
    fn time_out(&self, exchange: &Exchange) -> Ending {
        let metrics = &self.shared.metrics;
        let (counter, ending) = match exchange.phase() {
            _ if exchange.is_write_stalled(self.clock.now_ns()) => {
                (&metrics.write_timeouts, Ending::Broken)
            }
            Phase::Idle => (&metrics.idle_timeouts, Ending::Done),
            Phase::Head => (&metrics.header_timeouts, Ending::Refused(StatusCode::REQUEST_TIMEOUT)),
            Phase::Body => (&metrics.body_timeouts, Ending::Refused(StatusCode::REQUEST_TIMEOUT)),
            Phase::Answer | Phase::Leaving => (&metrics.write_timeouts, Ending::Broken),
        };
        counter.add(1);
        ending
    }
}

async fn finish<C: Clock, B: BlockSource, T: Transport>(
    server: &Server<C, B>,
    exchange: &Rc<Exchange>,
    mut transport: T,
    ending: Ending,
    head: &[u8],
) {
    exchange.leave();
    let patience_ns = exchange.write_ns();
    match ending {
        Ending::Broken => transport.abort(),
        // All that was asked for is delivered; a stop waits for nothing else.
        Ending::Done if server.is_draining() => {
            if farewell::tell(&server.clock, &mut transport, &[], patience_ns).await.is_none() {
                transport.abort();
            }
        }
        Ending::Done => bid(&server.clock, &mut transport, &[], patience_ns).await,
        Ending::Evicted => server.dismiss(transport, &[]).await,
        Ending::Refused(status) => {
            log_refusal(server, exchange, &transport, status, head);
            let answer = Answer::from(Refusal::new(status).closing());
            let message = answer.into_last_message(&server.date());
            bid(&server.clock, &mut transport, &message, patience_ns).await;
        }
    }
}

fn log_refusal<C: Clock, B, T: Transport>(
    server: &Server<C, B>,
    exchange: &Rc<Exchange>,
    transport: &T,
    status: StatusCode,
    head: &[u8],
) {
    let log = &server.shared.access_log;
    let malformed = || {
        let line = head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
        let line = &line[..line.len().min(LOGGED_LEN_MAX)];
        Box::new(log.malformed(transport.peer_address(), server.clock.unix_seconds(), line))
    };
    let record = exchange.take_record().or_else(|| log.is_on().then(malformed));
    let (shared, exchange) = (Rc::clone(&server.shared), Rc::clone(exchange));
    drop(Completion { shared, exchange, record, status, body_len: 0 });
}

/// One timer for all deadlines of a connection. It is set again only when a deadline comes before the
/// time that it is set to, or when it goes off and the deadline has moved.
struct Timer<C: Clock> {
    clock: C,
    sleep: Option<Pin<Box<C::Sleep>>>,
    set_to_ns: u64,
}

impl<C: Clock> Timer<C> {
    fn new(clock: C) -> Self {
        Self { clock, sleep: None, set_to_ns: NEVER }
    }

    /// Ready when the exchange's deadline has passed.
    fn poll(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Poll<()> {
        loop {
            let deadline_ns = exchange.deadline_ns();
            if deadline_ns < self.set_to_ns {
                self.set_to_ns = deadline_ns;
                self.sleep = Some(Box::pin(self.clock.sleep_until(deadline_ns)));
            }
            let Some(sleep) = &mut self.sleep else { return Poll::Pending };
            ready!(sleep.as_mut().poll(cx));
            (self.sleep, self.set_to_ns) = (None, NEVER);
            if exchange.deadline_ns() <= self.clock.now_ns() {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_of_http_are_told_from_nonsense() {
        for (line, expect) in [
            ("GET / HTTP/2.0\r", true),
            ("GET / HTTP/0.9", true),
            ("GET / HTTP/1.1\r", false),
            ("GET / HTTP/x.y", false),
            ("GET / HTTP/11", false),
            ("GET /", false),
            ("", false),
        ] {
            assert_eq!(has_other_version(line.as_bytes()), expect, "{line:?}");
        }
    }
}
