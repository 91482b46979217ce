//! How HTTP on a connection ends, and what follows.
use super::exchange::{Exchange, Phase};
use super::farewell::Farewell;
use super::timer::Timer;
use crate::body::Completion;
use crate::platform::{BlockSource, Clock, Transport};
use crate::request::{Answer, Refusal};
use crate::server::Server;
use hyper::StatusCode;
use std::rc::Rc;

/// Longest piece of an unreadable request that goes to the log, bytes.
const LOGGED_LEN_MAX: usize = 256;

/// How HTTP on a connection ended.
pub(super) enum Ending {
    /// In good order.
    Done,
    /// To make room.
    Evicted,
    /// With a request that there is no memory for.
    Crowded,
    /// The client is gone, or takes nothing any more.
    Broken,
    /// With a request that gets this last answer.
    Refused(StatusCode),
}

/// The status for a request that hyper could not read, or none if hyper's own answer or part of
/// another is on its way already.
pub(super) fn classify(error: &hyper::Error, head: &[u8], refused: bool) -> Ending {
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

impl<C: Clock, B: BlockSource> Server<C, B> {
    /// Counts a deadline that has passed and says what follows.
    pub(super) fn time_out(&self, exchange: &Exchange) -> Ending {
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

/// Ends a connection.
pub(super) async fn finish<C: Clock, B: BlockSource, T: Transport>(
    server: &Server<C, B>,
    exchange: &Rc<Exchange>,
    timer: &mut Timer<C>,
    mut transport: T,
    ending: Ending,
    head: &[u8],
) {
    exchange.leave();
    let patience_ns = exchange.write_ns();
    let mut farewell =
        Farewell { clock: &server.clock, timer, scratch: &server.scratch, patience_ns };
    match ending {
        Ending::Broken => transport.abort(),
        // All that was asked for is delivered; a stop waits for nothing else.
        Ending::Done if server.is_draining() => farewell.tell(&mut transport, &[]).await,
        Ending::Done => farewell.bid(&mut transport, &[]).await,
        Ending::Evicted => server.dismiss(timer, transport, &[]).await,
        Ending::Crowded => server.refuse(timer, transport).await,
        Ending::Refused(status) => {
            log_refusal(server, exchange, &transport, status, head);
            let answer = Answer::from(Refusal::new(status).closing());
            let message = answer.into_last_message(&server.date());
            farewell.bid(&mut transport, &message).await;
        }
    }
}

fn log_refusal<C: Clock, B: BlockSource, T: Transport>(
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
