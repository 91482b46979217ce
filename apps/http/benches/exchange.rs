//! What one request costs the server: `cargo bench -p paravane-http`.
//!
//! A small cached file is asked for on one connection in memory, one request at a time and in
//! pipelined batches, so that only HTTP is measured: plain requests, which are answered directly, and
//! some that hyper reads. Prints the best of several runs.
use bytes::{Buf, Bytes};
use paravane_http::{BlockSource, Clock, Config, Server, Transport, index};
use std::cell::Cell;
use std::future::{Future, Pending, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

const REQUEST: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const HYPER_REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nRange: bytes=0-\r\n\r\n";
const BROWSER_REQUEST: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
const REQUESTS: usize = 400_000;
const RUNS: usize = 5;

#[derive(Clone)]
struct HostClock(Instant);

impl Clock for HostClock {
    type Sleep = Pending<()>;

    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn unix_seconds(&self) -> u64 {
        1_700_000_000
    }

    fn sleep_until(&self, _: u64) -> Self::Sleep {
        pending()
    }
}

#[derive(Clone)]
struct Disk(Rc<Vec<u8>>);

impl BlockSource for Disk {
    type Buffer = Vec<u8>;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn buffer(&self, capacity: usize) -> io::Result<Vec<u8>> {
        Ok(Vec::with_capacity(capacity))
    }

    fn read(
        &self,
        offset: u64,
        mut buffer: Vec<u8>,
        len: usize,
    ) -> impl Future<Output = io::Result<Vec<u8>>> + 'static {
        let start = usize::try_from(offset).expect("a small disk");
        buffer.clear();
        buffer.extend_from_slice(&self.0[start..start + len]);
        std::future::ready(Ok(buffer))
    }
}

/// A client that sends `batch` when `due` and takes everything.
struct Client {
    batch: Vec<u8>,
    due: Rc<Cell<bool>>,
    taken: Rc<Cell<usize>>,
}

impl Transport for Client {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.due.replace(false) {
            return Poll::Pending;
        }
        buffer[..self.batch.len()].copy_from_slice(&self.batch);
        Poll::Ready(Ok(self.batch.len()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.taken.set(self.taken.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.poll_write(cx, bytes).map_ok(|count| bytes.advance(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}

    fn peer_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let content = [b'x'; 128];
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, "index.html", &content[..]).expect("in memory");
    builder.into_inner().expect("in memory")
}

/// Time that this process had a processor for, ns (Linux, `proc_pid_schedstat(5)`): on a busy machine
/// more telling than the time that passed.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("schedstat of Linux")
}

/// Nanoseconds per request, best of several runs.
fn measure(config: &str, request: &[u8], batch: usize) -> u64 {
    let disk = Disk(Rc::new(archive()));
    let site = futures_executor::block_on(index(disk.clone())).expect("a good archive");
    let config = Config::parse(config.as_bytes()).expect("a good configuration");
    let clock = HostClock(Instant::now());
    let server = Server::new(config, 64 << 20, site, disk, clock, Box::new(|_| {}));
    let (due, taken) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let client =
        Client { batch: request.repeat(batch), due: Rc::clone(&due), taken: taken.clone() };
    let mut serving = pin!(server.serve(client));
    let mut cx = Context::from_waker(Waker::noop());
    let mut best = u64::MAX;
    for _ in 0..RUNS {
        let start = processor_ns();
        for _ in 0..REQUESTS / batch {
            due.set(true);
            let before = taken.get();
            assert!(serving.as_mut().poll(&mut cx).is_pending());
            assert!(taken.get() > before, "no response");
        }
        best = best.min((processor_ns() - start) / REQUESTS as u64);
    }
    best
}

fn main() {
    for (name, config, request, batch) in [
        ("short request", "access_log = false", REQUEST, 1),
        ("short request, pipelined x16", "access_log = false", REQUEST, 16),
        ("browser's request", "access_log = false", BROWSER_REQUEST, 1),
        ("short request, access log on", "access_log = true", REQUEST, 1),
        ("pipelined x16, access log on", "access_log = true", REQUEST, 16),
        ("with a range (hyper)", "access_log = false", HYPER_REQUEST, 1),
        ("with a range (hyper), x16", "access_log = false", HYPER_REQUEST, 16),
    ] {
        println!("{name:30} {:6} ns/request", measure(config, request, batch));
    }
}
