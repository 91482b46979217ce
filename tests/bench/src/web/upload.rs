//! Uploads: one connection to a server that takes bytes, and says in the end how many there were.
use super::http::{Moved, connect, on_client_cpu};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// What is written at a time, bytes.
const CHUNK_LEN: usize = 256 << 10;

/// Whether a server takes bytes at an address.
pub(crate) fn works(address: &str) -> bool {
    upload(address, Duration::ZERO).is_ok()
}

/// Sends for some seconds. The time until the server has said how much it took counts.
pub(crate) fn run(address: &str, seconds: u32) -> Result<Moved> {
    on_client_cpu(address, seconds, upload)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
fn upload(address: &str, time: Duration) -> Result<Moved> {
    let mut stream = connect(address)?;
    let chunk = vec![0x5a; CHUNK_LEN];
    let (start, mut sent) = (Instant::now(), 0u64);
    loop {
        stream.write_all(&chunk).context("sending")?;
        sent += CHUNK_LEN as u64;
        if start.elapsed() >= time {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut count = [0; 8];
    stream.read_exact(&mut count).context("waiting for the count")?;
    let seconds = start.elapsed().as_secs_f64();
    let count = u64::from_be_bytes(count);
    ensure!(count == sent, "{sent} bytes were sent, the server counted {count}");
    Ok(Moved { bytes: sent as f64, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[track_caller]
    fn check(extra: u64, works: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&(all.len() as u64 + extra).to_be_bytes()).unwrap();
        });
        assert_eq!(super::works(&address), works);
        server.join().unwrap();
    }

    #[test]
    fn a_wrong_count_is_an_error() {
        check(0, true);
        check(1, false);
    }
}
