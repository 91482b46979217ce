//! The access log in Apache's "combined" format.
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version, header};
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

/// Text is handed over at this size at the latest, bytes.
const BATCH_LEN: usize = 16 << 10;

/// Where lines go: called with whole lines.
pub type Sink = Box<dyn Fn(&[u8])>;

/// Lines of requests that are done, collected until it is worth writing them.
pub(crate) struct AccessLog {
    sink: Option<Sink>,
    batch: RefCell<String>,
    waiting: Cell<Option<Waker>>,
    clock: RefCell<(u64, String)>,
}

/// A request, as far as its line shows it.
pub(crate) struct Line<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a [u8],
    pub(crate) version: Version,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    fn of(request: &'a Parts) -> Self {
        let field = |name| request.headers.get(name).map(|value| value.as_bytes());
        let target = request.uri.path_and_query().map_or("*", |target| target.as_str());
        Self {
            method: &request.method,
            target: target.as_bytes(),
            version: request.version,
            referer: field(header::REFERER),
            user_agent: field(header::USER_AGENT),
        }
    }

    fn start(&self, line: &mut String) {
        line.push_str(self.method.as_str());
        line.push(' ');
        escape(line, self.target);
        let _ = write!(line, " {:?}\"", self.version);
    }

    fn end(&self, line: &mut String) {
        line.push('"');
        escape(line, self.referer.unwrap_or(b"-"));
        line.push_str("\" \"");
        escape(line, self.user_agent.unwrap_or(b"-"));
        line.push_str("\"\n");
    }
}

/// The beginning and the end of a line; status and length come in between when they are known.
#[derive(Debug)]
pub(crate) struct Record {
    before: String,
    after: String,
}

impl AccessLog {
    /// A log that writes to `sink`, or none.
    pub(crate) fn new(sink: Option<Sink>) -> Self {
        Self {
            sink,
            batch: RefCell::default(),
            waiting: Cell::default(),
            clock: RefCell::new((u64::MAX, String::new())),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Starts the line of a request.
    pub(crate) fn record(&self, peer: SocketAddr, unix_seconds: u64, request: &Parts) -> Record {
        let line = Line::of(request);
        let (mut before, mut after) = (String::with_capacity(160), String::new());
        self.prefix(&mut before, peer, unix_seconds);
        line.start(&mut before);
        line.end(&mut after);
        Record { before, after }
    }

    /// Writes the whole line of a request.
    pub(crate) fn write(
        &self,
        peer: SocketAddr,
        unix_seconds: u64,
        line: &Line<'_>,
        status: StatusCode,
        body_len: u64,
    ) {
        let mut batch = self.batch.borrow_mut();
        self.prefix(&mut batch, peer, unix_seconds);
        line.start(&mut batch);
        let _ = write!(batch, " {} {body_len} ", status.as_u16());
        line.end(&mut batch);
        self.added(&mut batch);
    }

    /// Starts the line of a request that could not be read, from its first line.
    pub(crate) fn malformed(&self, peer: SocketAddr, unix_seconds: u64, line: &[u8]) -> Record {
        let mut before = String::with_capacity(160);
        self.prefix(&mut before, peer, unix_seconds);
        escape(&mut before, line);
        before.push('"');
        Record { before, after: "\"-\" \"-\"\n".into() }
    }

    /// Ends a line.
    pub(crate) fn finish(&self, record: &Record, status: StatusCode, body_len: u64) {
        let mut batch = self.batch.borrow_mut();
        let _ = write!(batch, "{} {} {body_len} {}", record.before, status.as_u16(), record.after);
        self.added(&mut batch);
    }

    /// A line was added.
    fn added(&self, batch: &mut String) {
        if batch.len() >= BATCH_LEN {
            self.emit(batch);
        } else if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Hands over the lines collected.
    pub(crate) fn flush(&self) {
        self.emit(&mut self.batch.borrow_mut());
    }

    /// Waits until there are lines to hand over.
    pub(crate) fn poll_lines(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.batch.borrow().is_empty() {
            self.waiting.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn emit(&self, batch: &mut String) {
        if let Some(sink) = self.sink.as_ref().filter(|_| !batch.is_empty()) {
            sink(batch.as_bytes());
        }
        batch.clear();
    }

    fn prefix(&self, line: &mut String, peer: SocketAddr, unix_seconds: u64) {
        let mut clock = self.clock.borrow_mut();
        if clock.0 != unix_seconds {
            *clock = (unix_seconds, log_date(unix_seconds));
        }
        let _ = write!(line, "{} - - [{}] \"", peer.ip(), clock.1);
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

/// A date such as `10/Oct/2000:13:55:36 +0000`, made of an HTTP date's pieces.
fn log_date(unix_seconds: u64) -> String {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_seconds));
    let piece = |range| date.get(range).unwrap_or("");
    format!("{}/{}/{}:{} +0000", piece(5..7), piece(8..11), piece(12..16), piece(17..25))
}

/// Appends text from a client so that it can neither end the quoted field nor control a terminal.
fn escape(line: &mut String, text: &[u8]) {
    for &byte in text {
        match byte {
            b' '..=b'~' if byte != b'"' && byte != b'\\' => line.push(char::from(byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use std::rc::Rc;

    fn log() -> (AccessLog, Rc<RefCell<Vec<u8>>>) {
        let written = Rc::new(RefCell::new(Vec::new()));
        let copy = Rc::clone(&written);
        let sink: Sink = Box::new(move |bytes| copy.borrow_mut().extend_from_slice(bytes));
        (AccessLog::new(Some(sink)), written)
    }

    #[test]
    fn a_line_is_in_combined_format() {
        let (log, written) = log();
        let request = Request::get("/a?b")
            .header("referer", "http://x/\"")
            .header("user-agent", "curl\\")
            .body(())
            .unwrap();
        let peer = "10.0.0.1:5".parse().unwrap();
        let record = log.record(peer, 971_186_136, &request.into_parts().0);
        log.finish(&record, StatusCode::OK, 12);
        let record = log.malformed(peer, 971_186_137, b"\x16\x03");
        log.finish(&record, StatusCode::BAD_REQUEST, 0);
        assert!(written.borrow().is_empty(), "lines are collected");
        log.flush();
        let text = String::from_utf8(written.take()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "10.0.0.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /a?b HTTP/1.1\" 200 12 \
                 \"http://x/\\x22\" \"curl\\x5C\"",
                "10.0.0.1 - - [10/Oct/2000:13:55:37 +0000] \"\\x16\\x03\" 400 0 \"-\" \"-\"",
            ]
        );
    }

    #[test]
    fn a_full_batch_is_written_at_once() {
        let (log, written) = log();
        let record = log.malformed("[::1]:1".parse().unwrap(), 0, &[b'x'; BATCH_LEN]);
        log.finish(&record, StatusCode::BAD_REQUEST, 0);
        assert!(written.borrow().len() > BATCH_LEN);
    }
}
