//! Latency: requests that are sent when they are due, whether or not earlier ones were answered.
//!
//! Each is measured from the time when it was due, so that what waits behind a slow answer counts as
//! slow, too. The client never sleeps: waking it up would be measured with the server.
use super::http::{Head, PATIENCE, connect, on_client_cpu, request};
use super::site::File;
use crate::figures::quantile;
use anyhow::{Context, Result, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Requests that can be under way at a time; more wait for a connection.
const CONNECTIONS: usize = 64;

/// How long the answers took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) requests: f64,
    /// From the first request to the last answer.
    pub(crate) seconds: f64,
    /// The median, the 99th percentile, and that of 99.9 %, us.
    pub(crate) quantiles_us: [f64; 3],
}

/// Asks for a file `rate` times a second for some seconds.
pub(crate) fn run(address: &str, file: File, rate: f64, seconds: u32) -> Result<Latency> {
    on_client_cpu(address, seconds, move |address, time| {
        Client::new(address, file, rate)?.run(rate * time.as_secs_f64())
    })
}

struct Client {
    request: String,
    interval_s: f64,
    body_len: usize,
    idle: Vec<Connection>,
    busy: Vec<Connection>,
    latencies_us: Vec<f64>,
}

struct Connection {
    stream: TcpStream,
    due: Instant,
    received: Vec<u8>,
}

impl Client {
    fn new(address: &str, file: File, rate: f64) -> Result<Self> {
        let connection = |_| -> Result<Connection> {
            let stream = connect(address)?;
            stream.set_nonblocking(true)?;
            Ok(Connection { stream, due: Instant::now(), received: Vec::new() })
        };
        Ok(Self {
            request: request(file),
            interval_s: 1.0 / rate,
            body_len: file.len(),
            idle: (0..CONNECTIONS).map(connection).collect::<Result<_>>()?,
            busy: Vec::new(),
            latencies_us: Vec::new(),
        })
    }

    fn run(mut self, requests: f64) -> Result<Latency> {
        let start = Instant::now();
        let mut sent = 0.0;
        let mut last = start;
        while sent < requests || !self.busy.is_empty() {
            let due = start + Duration::from_secs_f64(sent * self.interval_s);
            if sent < requests && Instant::now() >= due && self.send(due)? {
                sent += 1.0;
            }
            if self.receive()? || self.busy.is_empty() {
                last = Instant::now();
            }
            ensure!(last.elapsed() < PATIENCE, "{} requests got no answer", self.busy.len());
        }
        Ok(Latency {
            requests,
            seconds: start.elapsed().as_secs_f64(),
            quantiles_us: [0.5, 0.99, 0.999].map(|share| quantile(&self.latencies_us, share)),
        })
    }

    /// Sends a request if there is a connection for it.
    fn send(&mut self, due: Instant) -> Result<bool> {
        let Some(mut connection) = self.idle.pop() else { return Ok(false) };
        connection.due = due;
        // A connection without a request under way has room for one.
        connection.stream.write_all(self.request.as_bytes()).context("sending a request")?;
        self.busy.push(connection);
        Ok(true)
    }

    /// Takes what has come. Returns whether an answer is complete.
    fn receive(&mut self) -> Result<bool> {
        let before = self.latencies_us.len();
        let mut i = 0;
        while let Some(connection) = self.busy.get_mut(i) {
            if connection.receive(self.body_len)? {
                self.latencies_us.push(connection.due.elapsed().as_secs_f64() * 1e6);
                self.idle.push(self.busy.swap_remove(i));
            } else {
                i += 1;
            }
        }
        Ok(self.latencies_us.len() > before)
    }
}

impl Connection {
    /// Whether the answer is complete.
    fn receive(&mut self, body_len: usize) -> Result<bool> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => anyhow::bail!("a connection ended"),
            Ok(len) => self.received.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("reading an answer"),
        }
        let Some(head) = Head::parse(&self.received)? else { return Ok(false) };
        ensure!(head.body_len == body_len, "a body of {} bytes", head.body_len);
        let complete = self.received.len() == head.len + body_len;
        ensure!(self.received.len() <= head.len + body_len, "more came than was asked for");
        if complete {
            self.received.clear();
        }
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers requests on all connections, the first of all after a pause.
    fn serve(listener: &TcpListener, pause: Duration) {
        let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n"[..], &[7; 128]].concat();
        let mut streams: Vec<TcpStream> = Vec::new();
        while streams.len() < CONNECTIONS {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            streams.push(stream);
        }
        let mut first = true;
        let mut buffer = [0; 1024];
        while !streams.is_empty() {
            streams.retain_mut(|stream| match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(_) => {
                    std::thread::sleep(if first { pause } else { Duration::ZERO });
                    first = false;
                    stream.write_all(&answer).is_ok()
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
        }
    }

    #[test]
    fn requests_behind_a_pause_are_measured_from_when_they_were_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || serve(&listener, Duration::from_millis(300)));
        let latency = Client::new(&address, File::Bytes128, 1000.0).unwrap().run(400.0).unwrap();
        server.join().unwrap();
        assert!((latency.requests - 400.0).abs() < 0.5);
        // Of 400 requests 300 fell into the pause; half of all waited 100 ms or longer.
        assert!(latency.quantiles_us[0] >= 90_000.0, "{latency:?}");
        assert!(latency.quantiles_us.is_sorted(), "{latency:?}");
    }

    #[test]
    fn a_server_that_goes_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = Client::new(&address, File::Bytes128, 1000.0).unwrap();
        drop(listener);
        assert!(client.run(10.0).is_err());
    }
}
