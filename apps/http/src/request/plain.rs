//! Requests that want nothing but a file in memory: read and answered without hyper.
//!
//! Only what is certain to get the very answer that hyper and the other handlers would give is
//! understood here; in any doubt a request is theirs.
use super::get::Representation;
use super::path;
use crate::access_log::Line;
use crate::body::LOAN_MIN;
use crate::content::{ReadyHead, Resident};
use crate::platform::{BlockSource, Clock};
use crate::server::Server;
use crate::site::Found;
use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode, Version};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::rc::Rc;

/// Most header fields of a request that is read here.
const FIELDS_MAX: usize = 32;

/// Why a request is hyper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// For a reason that the next request does not have: its end is not here yet, or its file is not
    /// yet in memory.
    Once,
    /// It wants more than a file in memory.
    Other,
}

/// A request that wants nothing but a file.
#[derive(Debug, Default)]
struct Plain<'a> {
    /// Bytes of the head.
    len: usize,
    is_head: bool,
    closes: bool,
    host_count: usize,
    target: &'a str,
    accept_encoding: Option<&'a [u8]>,
    referer: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
}

impl<'a> Plain<'a> {
    /// Reads the request at the front of `bytes`.
    fn read(bytes: &'a [u8], uri_len_max: usize, head_len_max: usize) -> Result<Self, Unfit> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let len = match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete(len)) if len <= head_len_max => len,
            Ok(httparse::Status::Partial) => return Err(Unfit::Once),
            _ => return Err(Unfit::Other),
        };
        let target = request.path.filter(|path| path.len() <= uri_len_max && is_common(path));
        let mut plain = Self { len, target: target.ok_or(Unfit::Other)?, ..Self::default() };
        plain.is_head = match request.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err(Unfit::Other),
        };
        for field in request.headers.iter() {
            plain.note(field.name, field.value).ok_or(Unfit::Other)?;
        }
        let is_fit = request.version == Some(1) && plain.host_count == 1;
        if is_fit { Ok(plain) } else { Err(Unfit::Other) }
    }

    /// Looks at a header field; `None` if it asks for more than is understood here.
    fn note(&mut self, name: &str, value: &'a [u8]) -> Option<()> {
        const DECISIVE: [&str; 5] =
            ["range", "expect", "upgrade", "content-length", "transfer-encoding"];
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("host") {
            self.host_count += 1;
        } else if is("user-agent") {
            self.user_agent.get_or_insert(value);
        } else if is("referer") {
            self.referer.get_or_insert(value);
        } else if is("accept-encoding") {
            return self.accept_encoding.replace(value).is_none().then_some(());
        } else if is("connection") {
            self.closes |= value.eq_ignore_ascii_case(b"close");
            return (self.closes || value.eq_ignore_ascii_case(b"keep-alive")).then_some(());
        } else {
            let is_condition = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("if-"));
            return (!is_condition && !DECISIVE.into_iter().any(is)).then_some(());
        }
        Some(())
    }

    fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Whether a target is in origin form and has only characters that need no thought (RFC 3986, 3.3 and
/// 3.4).
fn is_common(target: &str) -> bool {
    let is_common =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%?".contains(&byte);
    target.starts_with('/') && target.bytes().all(is_common)
}

/// A request that is answered here, and the file that it gets.
pub(crate) struct PlainAnswer<'a> {
    request: Plain<'a>,
    resident: Rc<Resident>,
    /// Whether the file is the coded form of the one that was asked for.
    is_coded: bool,
}

impl PlainAnswer<'_> {
    /// Bytes of the request.
    pub(crate) fn request_len(&self) -> usize {
        self.request.len
    }

    /// Whether the connection ends after it.
    pub(crate) fn closes(&self) -> bool {
        self.request.closes
    }

    /// Bytes of body that are sent.
    fn body_len(&self) -> usize {
        if self.request.is_head { 0 } else { self.resident.bytes.len() }
    }

    /// Appends the response to `output`, but for a body that is better sent from where it is: that
    /// is returned.
    fn write(&self, date: &str, output: &mut Vec<u8>) -> Bytes {
        let Some(head) = self.resident.heads[usize::from(self.is_coded)].get() else {
            return Bytes::new();
        };
        output.extend_from_slice(&head.before);
        if self.request.closes {
            output.extend_from_slice(b"connection: close\r\n");
        }
        output.extend_from_slice(&head.length);
        output.extend_from_slice(date.as_bytes());
        output.extend_from_slice(b"\r\n\r\n");
        let len = self.body_len();
        if len >= LOAN_MIN {
            return self.resident.bytes.clone();
        }
        output.extend_from_slice(&self.resident.bytes[..len]);
        Bytes::new()
    }

    /// What the access log says of it.
    fn line(&self) -> Line<'_> {
        Line {
            method: if self.request.is_head { &Method::HEAD } else { &Method::GET },
            target: self.request.target.as_bytes(),
            version: Version::HTTP_11,
            referer: self.request.referer,
            user_agent: self.request.user_agent,
        }
    }
}

impl<C: Clock, B: BlockSource> Server<C, B> {
    /// Reads the request at the front of `bytes` and finds its file.
    pub(crate) fn plain<'a>(&self, bytes: &'a [u8]) -> Result<PlainAnswer<'a>, Unfit> {
        #[cfg(test)]
        if self.hyper_only.get() {
            return Err(Unfit::Other);
        }
        let limits = &self.shared.config.limits;
        let request = Plain::read(bytes, limits.uri_bytes, limits.header_bytes)?;
        let path = path::decode(request.path()).map_err(|_| Unfit::Other)?;
        let Found::File(id) = self.site.find(&path) else { return Err(Unfit::Other) };
        let chosen = self.choose(id, request.accept_encoding);
        if request.is_head && chosen.file.len == 0 {
            // hyper writes no length then.
            return Err(Unfit::Other);
        }
        let Some(resident) = self.contents.cached(chosen.id) else {
            let is_cacheable = self.contents.is_cacheable(chosen.file);
            return Err(if is_cacheable { Unfit::Once } else { Unfit::Other });
        };
        let is_coded = chosen.coding.is_some();
        let head =
            resident.heads[usize::from(is_coded)].get_or_init(|| make_head(&chosen, &resident));
        if (head.coding, head.media_type) != (chosen.coding, chosen.media_type) {
            // A link makes it the coded form of another file, too.
            return Err(Unfit::Other);
        }
        Ok(PlainAnswer { request, resident, is_coded })
    }

    /// Appends the response to `output`, and puts it into the books. A body that is better sent from
    /// where it is is returned.
    pub(crate) fn write_plain(
        &self,
        answer: &PlainAnswer<'_>,
        peer: SocketAddr,
        output: &mut Vec<u8>,
    ) -> Bytes {
        let now = self.clock.unix_seconds();
        let body_len = answer.body_len() as u64;
        self.shared.metrics.count_response(StatusCode::OK);
        self.shared.metrics.body_bytes.add(body_len);
        if self.shared.access_log.is_on() {
            self.shared.access_log.write(peer, now, &answer.line(), StatusCode::OK, body_len);
        }
        let mut date = self.date.borrow_mut();
        if date.0 != now {
            *date = (now, self.date());
        }
        answer.write(&date.1, output)
    }
}

/// The head of the answer, in hyper's form: names in lower case, in the order of the map.
fn make_head(chosen: &Representation<'_>, resident: &Resident) -> ReadyHead {
    let mut map = HeaderMap::new();
    chosen.fill(&resident.headers, &mut map);
    let mut before = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in &map {
        before.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    ReadyHead {
        coding: chosen.coding,
        media_type: chosen.media_type,
        before: before.into(),
        length: format!("content-length: {}\r\ndate: ", chosen.file.len).into_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &str) -> Result<Plain<'_>, Unfit> {
        Plain::read(request.as_bytes(), 100, 8192)
    }

    #[test]
    fn a_plain_request_is_understood() {
        let head = "HEAD /a%20b?c=?d HTTP/1.1\r\nHOST: x\r\nuser-agent: me\r\nx: y\r\n\
                    Accept-Encoding: br\r\nConnection: Keep-Alive\r\n\r\n";
        let request = [head, "GET "].concat();
        let plain = read(&request).unwrap();
        assert_eq!((plain.len, plain.path(), plain.target), (head.len(), "/a%20b", "/a%20b?c=?d"));
        assert!(plain.is_head && !plain.closes);
        assert_eq!(plain.accept_encoding, Some(&b"br"[..]));
        assert_eq!((plain.user_agent, plain.referer), (Some(&b"me"[..]), None));
        assert!(read("GET / HTTP/1.1\r\nhost: x\r\nconnection: Close\r\n\r\n").unwrap().closes);
    }

    #[test]
    fn anything_else_is_not() {
        for (request, why) in [
            ("GET / HTTP/1.1\r\nhost: x\r\n", Unfit::Once),
            ("", Unfit::Once),
            ("G", Unfit::Once),
            ("POST / HTTP/1.1\r\nhost: x\r\n\r\n", Unfit::Other),
            ("GET / HTTP/1.0\r\nhost: x\r\n\r\n", Unfit::Other),
            ("GET / HTTP/1.1\r\n\r\n", Unfit::Other),
            ("GET / HTTP/1.1\r\nhost: x\r\nHost: x\r\n\r\n", Unfit::Other),
            ("GET * HTTP/1.1\r\nhost: x\r\n\r\n", Unfit::Other),
            ("GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n", Unfit::Other),
            ("GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n", Unfit::Other),
            ("GET /\u{e4} HTTP/1.1\r\nhost: x\r\n\r\n", Unfit::Other),
            ("nonsense\r\n\r\n", Unfit::Other),
        ] {
            assert_eq!(read(request).err(), Some(why), "{request:?}");
        }
        for field in [
            "Range: bytes=0-",
            "If-None-Match: x",
            "iF-rAnGe: x",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Connection: keep-alive, close",
            "Connection: upgrade",
            "Accept-Encoding: br\r\nAccept-Encoding: gzip",
        ] {
            let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{field}\r\n\r\n");
            assert_eq!(read(&request).err(), Some(Unfit::Other), "{field}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100));
        assert_eq!(read(&long).err(), Some(Unfit::Other));
        let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX));
        assert_eq!(read(&many).err(), Some(Unfit::Other));
        let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "a".repeat(8192));
        assert_eq!(read(&large).err(), Some(Unfit::Other));
    }
}
