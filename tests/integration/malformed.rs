//! HTTP that is not HTTP, over raw sockets.
use crate::backend::Backend;
use crate::case::Case;
use crate::web::Web;
use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("malformed::requests", requests), Case::new("malformed::abrupt", abrupt)]
}

/// A request, and the status lines that are right for it; none means that closing is, too.
const REQUESTS: &[(&[u8], &[&str])] = &[
    (b"nonsense\r\n\r\n", &["400"]),
    (b"GET\r\n\r\n", &["400"]),
    (b"GET / HTTP/9.9\r\n\r\n", &["400", "505"]),
    (b"GET / HTTP/1.1\r\n\r\n", &["400"]),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &["400"]),
    (b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n", &["400"]),
    (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", &["400"]),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", &["400"]),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &["400", ""]),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["400", "505"]),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", &["400"]),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", &["400"]),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &["400", "405"],
    ),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", &["400", "405"]),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", &["405", "413"]),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &["200", "204"]),
    (b"GET http://a/a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &["200"]),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &["400", "405", "501"]),
    (b"get /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &["400", "405", "501"]),
];

fn requests(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    for (request, statuses) in REQUESTS {
        let answer = ask(web.port, request)?;
        let status = answer.split(' ').nth(1).unwrap_or("");
        let shown = String::from_utf8_lossy(request);
        ensure!(statuses.contains(&status), "{shown:?} gave {answer:?}");
    }
    let long_header = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ".as_slice(), &[b'x'; 200_000]].concat();
    let answer = ask(web.port, &long_header)?;
    ensure!(answer.contains(" 431 ") || answer.is_empty(), "long header: {answer}");
    let many: String = (0..1000).map(|i| format!("X-{i}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    let answer = ask(web.port, many.as_bytes())?;
    ensure!(answer.contains(" 431 ") || answer.contains(" 400 "), "many headers: {answer}");
    ensure!(web.curl("/a.txt", &[])?.status == 200, "still serving");
    web.domain.stop()?.expect(0, &[])
}

/// Sends everything, half-closes, and reads to the end.
fn ask(port: u16, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // The server may answer and close before it has read everything.
    drop(stream.write_all(request));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connections that end at every byte of a request, and in the middle of a response.
fn abrupt(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let request = b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..=request.len() {
        let mut stream = TcpStream::connect(("127.0.0.1", web.port))?;
        stream.write_all(&request[..end])?;
        if end == request.len() {
            stream.read_exact(&mut [0; 1000])?;
        }
    }
    ensure!(web.curl("/a.txt", &[])?.status == 200, "still serving");
    web.domain.stop()?.expect(0, &[])
}
