//! As much of an HTTP client as measuring takes.
use super::site::File;
use crate::cpus::{clients, pin};
use anyhow::{Context, Result, anyhow, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// After this time without a byte a server counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A response's head may not be longer, bytes.
const HEAD_MAX: usize = 16 << 10;

/// What a response's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length with the empty line, bytes.
    pub(crate) len: usize,
    pub(crate) body_len: usize,
}

impl Head {
    /// The head of a 200 with a length, if all of it is there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(bytes.len() < HEAD_MAX, "a head without an end");
            return Ok(None);
        };
        let text = str::from_utf8(&bytes[..end]).context("a head that is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        ensure!(status.starts_with("HTTP/1.1 200"), "the answer is {status:?}");
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then_some(value.trim())
        });
        let body_len = length.context("no Content-Length")?.parse().context("Content-Length")?;
        Ok(Some(Self { len: end + 4, body_len }))
    }
}

/// Connects, and waits no longer than `PATIENCE` for anything afterwards.
pub(crate) fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A request on a connection that is kept.
pub(crate) fn request(file: File) -> String {
    format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", file.path())
}

/// Asks for a file and compares what comes with what is in it.
pub(crate) fn verify(address: &str, file: File) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(request(file).as_bytes())?;
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let head = loop {
        if let Some(head) = Head::parse(&all)? {
            break head;
        }
        let len = stream.read(&mut buffer).context("reading a head")?;
        ensure!(len > 0, "the connection ended within the head");
        all.extend_from_slice(&buffer[..len]);
    };
    ensure!(head.body_len == file.len(), "{}: {} bytes", file.path(), head.body_len);
    while all.len() < head.len + head.body_len {
        let len = stream.read(&mut buffer).context("reading a body")?;
        ensure!(len > 0, "{}: ended after {} bytes", file.path(), all.len() - head.len);
        all.extend_from_slice(&buffer[..len]);
    }
    ensure!(all[head.len..] == file.body(), "{}: the body is not the file's", file.path());
    Ok(())
}

/// Bytes that came or went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) bytes: f64,
    pub(crate) seconds: f64,
}

/// Runs a client of the server at `address` for some seconds, on the CPU of the clients.
pub(crate) fn on_client_cpu<T: Send + 'static>(
    address: &str,
    seconds: u32,
    client: impl FnOnce(&str, Duration) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (address, time) = (address.to_owned(), Duration::from_secs(seconds.into()));
    let run =
        std::thread::spawn(move || pin(clients()).and_then(|()| client(&address, time))).join();
    run.map_err(|_| anyhow!("a client panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let text = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 12\r\n\r\nbody";
        let len = text.len() - 4;
        assert_eq!(Head::parse(text).unwrap(), Some(Head { len, body_len: 12 }));
        assert_eq!(Head::parse(&text[..len - 1]).unwrap(), None);
    }

    /// What is said of a server that answers with a length and a body.
    fn verified(len: usize, body: &[u8]) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
        let answer = [head.as_bytes(), body].concat();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(&answer).unwrap();
        });
        let result = verify(&address, File::Kib1);
        server.join().unwrap();
        result
    }

    #[test]
    fn a_body_is_compared_byte_by_byte() {
        let mut body = File::Kib1.body();
        assert!(verified(1024, &body).is_ok());
        assert!(verified(1023, &body[..1023]).is_err(), "shorter than the file");
        assert!(verified(1024, &body[..1000]).is_err(), "cut off");
        body.swap(500, 501);
        assert!(verified(1024, &body).is_err(), "another one");
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let no_length = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n";
        for text in [no_length, not_found, "x".repeat(HEAD_MAX).as_str()] {
            assert!(Head::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
