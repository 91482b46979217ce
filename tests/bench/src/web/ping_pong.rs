//! Round trips: one byte to a server that sends it back, the next when it has come.
//!
//! The client waits as clients do, asleep: what it takes to wake both ends up is part of the time.
use super::http::{connect, on_client_cpu};
use super::paced::Latency;
use crate::figures::quantile;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Whether a server sends back what comes at an address.
pub(crate) fn works(address: &str) -> bool {
    connect(address).and_then(|mut stream| round_trip(&mut stream, 1)).is_ok()
}

/// Goes there and back for some seconds.
pub(crate) fn run(address: &str, seconds: u32) -> Result<Latency> {
    on_client_cpu(address, seconds, ping_pong)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 round trips")]
fn ping_pong(address: &str, time: Duration) -> Result<Latency> {
    let mut stream = connect(address)?;
    let (start, mut latencies_us) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let [byte, ..] = latencies_us.len().to_le_bytes();
        let sent = Instant::now();
        round_trip(&mut stream, byte)?;
        latencies_us.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Latency {
        requests: latencies_us.len() as f64,
        seconds: start.elapsed().as_secs_f64(),
        quantiles_us: [0.5, 0.99, 0.999].map(|share| quantile(&latencies_us, share)),
    })
}

fn round_trip(stream: &mut TcpStream, byte: u8) -> Result<()> {
    stream.write_all(&[byte]).context("sending a byte")?;
    let mut echo = [0];
    stream.read_exact(&mut echo).context("waiting for a byte")?;
    ensure!(echo == [byte], "{byte} came back as {}", echo[0]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[track_caller]
    fn check(change: u8, works: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&[byte[0] ^ change]).unwrap();
        });
        assert_eq!(super::works(&address), works);
        server.join().unwrap();
    }

    #[test]
    fn another_byte_is_an_error() {
        check(0, true);
        check(1, false);
    }
}
