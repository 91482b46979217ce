//! The server as clients see it: bytes in, bytes out, on virtual time.
mod connections;
mod direct;
mod files;
mod hostile;
mod ranges;
mod rests;

use crate::testing::{Bed, archive};
use std::sync::OnceLock;

/// The file that is larger than the cache takes; its bytes count up.
fn large() -> &'static [u8] {
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    LARGE.get_or_init(|| (0..300_000_u32).flat_map(u32::to_le_bytes).collect())
}

fn site() -> Vec<u8> {
    static SITE: OnceLock<Vec<u8>> = OnceLock::new();
    SITE.get_or_init(make_site).clone()
}

fn make_site() -> Vec<u8> {
    archive(&[
        ("index.html", b"<h1>root</h1>"),
        ("docs/index.html", b"<h1>docs</h1>"),
        ("a b.txt", b"0123456789"),
        ("style.css", b"plain plain plain"),
        ("style.css.gz", b"gzipped"),
        ("style.css.br", b"brotli"),
        ("large.bin", large()),
        ("empty.txt", b""),
    ])
}

fn bed() -> Bed {
    Bed::new(site(), "")
}

/// A response taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    /// Names in lower case, without `date`.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _)| have == name).map(|(_, value)| &value[..])
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Takes responses apart; `bodiless` tells those that have a length but no body (to HEAD).
fn parse(mut bytes: &[u8], bodiless: bool) -> Vec<Response> {
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let (response, rest) = parse_one(bytes, bodiless);
        responses.push(response);
        bytes = rest;
    }
    responses
}

fn parse_one(bytes: &[u8], bodiless: bool) -> (Response, &[u8]) {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    assert!(status_line.starts_with("HTTP/1."), "{status_line}");
    let status = status_line[9..12].parse().unwrap();
    let fields: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let has_body = !bodiless && status != 304 && status >= 200;
    let len = length.filter(|_| has_body).map_or(0, |(_, len)| len.parse().unwrap());
    let (body, rest) = bytes[end + 4..].split_at(len);
    (Response { status, fields, body: body.to_vec() }, rest)
}

/// The response to one request; `\n` stands for a line end.
fn ask(bed: &mut Bed, request: &str) -> Response {
    let bytes = bed.exchange(request.replace('\n', "\r\n"));
    let mut responses = parse(&bytes, request.starts_with("HEAD"));
    assert_eq!(responses.len(), 1, "{request}: {responses:?}");
    responses.remove(0)
}

/// The response to a GET with more fields.
fn get(bed: &mut Bed, path: &str, fields: &str) -> Response {
    ask(bed, &format!("GET {path} HTTP/1.1\nhost: x\n{fields}\n"))
}

/// Checks the status, and the fields (`name: value`, or `!name` for absence) of a response.
fn check(bed: &mut Bed, request: &str, status: u16, expect: &[&str]) -> Response {
    let response = ask(bed, request);
    assert_eq!(response.status, status, "{request}: {response:?}");
    for expect in expect {
        match (expect.strip_prefix('!'), expect.split_once(": ")) {
            (Some(name), _) => assert_eq!(response.field(name), None, "{request}"),
            (None, Some((name, value))) => {
                assert_eq!(response.field(name), Some(value), "{request}: {name}");
            }
            (None, None) => panic!("{expect} is no expectation"),
        }
    }
    response
}
