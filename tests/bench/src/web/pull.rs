//! Bytes on one connection from a server that sends as many as are taken.
use super::http::{Moved, connect, on_client_cpu};
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::time::{Duration, Instant};

/// What is read at a time, bytes.
const BUFFER_LEN: usize = 256 << 10;

/// Whether a server sends bytes at an address.
pub(crate) fn works(address: &str) -> bool {
    pull(address, Duration::ZERO).is_ok()
}

/// Takes bytes for some seconds.
pub(crate) fn run(address: &str, seconds: u32) -> Result<Moved> {
    on_client_cpu(address, seconds, pull)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
fn pull(address: &str, time: Duration) -> Result<Moved> {
    let mut stream = connect(address)?;
    let mut buffer = vec![0; BUFFER_LEN];
    let (start, mut bytes) = (Instant::now(), 0u64);
    loop {
        let len = stream.read(&mut buffer).context("reading")?;
        ensure!(len > 0, "the server stopped after {bytes} bytes");
        bytes += len as u64;
        if start.elapsed() >= time {
            break;
        }
    }
    Ok(Moved { bytes: bytes as f64, seconds: start.elapsed().as_secs_f64() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    #[track_caller]
    fn check(sent: &'static [u8], works: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(sent));
        assert_eq!(super::works(&address), works);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn a_server_that_sends_nothing_is_an_error() {
        check(b"bytes", true);
        check(b"", false);
    }
}
