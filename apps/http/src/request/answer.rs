//! What the server answers, before it becomes a response of hyper's.
use super::multipart::Multipart;
use crate::body::Payload;
use crate::content::FileHeaders;
use crate::site::Coding;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{StatusCode, Version};

/// Value of `Server`.
pub(super) const SERVER: HeaderValue = HeaderValue::from_static("paravane");

const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Status, fields and body of a response.
pub(crate) struct Answer {
    pub(super) status: StatusCode,
    pub(super) fields: AnswerFields,
    pub(super) payload: Payload,
}

/// The header fields of a response beyond those that all have.
#[derive(Debug, Default)]
pub(super) struct AnswerFields {
    pub(super) media_type: Option<HeaderValue>,
    pub(super) etag: Option<HeaderValue>,
    pub(super) last_modified: Option<HeaderValue>,
    pub(super) content_range: Option<HeaderValue>,
    pub(super) coding: Option<Coding>,
    pub(super) location: Option<HeaderValue>,
    pub(super) varies: bool,
    pub(super) accepts_ranges: bool,
    pub(super) allow: bool,
    pub(super) closing: bool,
}

impl AnswerFields {
    /// The fields that describe a file, whether or not its bytes are sent.
    pub(super) fn of_file(headers: &FileHeaders, coding: Option<Coding>, varies: bool) -> Self {
        Self {
            etag: Some(headers.etag.clone()),
            last_modified: Some(headers.last_modified.clone()),
            coding,
            varies,
            ..Self::default()
        }
    }

    pub(super) fn fill(self, map: &mut HeaderMap) {
        let mut insert = |name, value: Option<HeaderValue>| {
            if let Some(value) = value {
                map.insert(name, value);
            }
        };
        let when = |condition: bool, value| condition.then_some(value);
        insert(header::CONTENT_TYPE, self.media_type);
        insert(header::ETAG, self.etag);
        insert(header::LAST_MODIFIED, self.last_modified);
        insert(header::CONTENT_RANGE, self.content_range);
        insert(header::LOCATION, self.location);
        let coding = self.coding.map(|coding| HeaderValue::from_static(coding.token()));
        insert(header::CONTENT_ENCODING, coding);
        let vary = HeaderValue::from_static("accept-encoding");
        insert(header::VARY, when(self.varies, vary));
        let bytes = HeaderValue::from_static("bytes");
        insert(header::ACCEPT_RANGES, when(self.accepts_ranges, bytes));
        insert(header::ALLOW, when(self.allow, ALLOW));
        insert(header::CONNECTION, when(self.closing, HeaderValue::from_static("close")));
    }
}

impl Answer {
    /// The answer to OPTIONS.
    pub(super) fn options() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            fields: AnswerFields { allow: true, ..AnswerFields::default() },
            payload: Payload::Bytes(Bytes::new()),
        }
    }

    /// A page that the server makes itself.
    pub(super) fn page(media_type: &'static str, text: String) -> Self {
        let media_type = Some(HeaderValue::from_static(media_type));
        Self {
            status: StatusCode::OK,
            fields: AnswerFields { media_type, ..AnswerFields::default() },
            payload: Payload::Bytes(text.into()),
        }
    }

    /// Sends the client to `location` for good.
    pub(super) fn moved(location: HeaderValue) -> Self {
        let mut answer = Self::from(Refusal::new(StatusCode::MOVED_PERMANENTLY));
        answer.fields.location = Some(location);
        answer
    }

    /// The same, and the connection ends after it.
    pub(super) fn closing(mut self) -> Self {
        self.fields.closing = true;
        self
    }

    /// The answer to a HEAD request in place of this one to GET.
    pub(super) fn without_body(mut self) -> Self {
        self.payload = Payload::LengthOnly(self.payload.len());
        self
    }

    /// An answer as bytes, for clients whose requests hyper gives up on.
    pub(crate) fn into_last_message(self, date: &str) -> Vec<u8> {
        let mut map = HeaderMap::new();
        self.fields.fill(&mut map);
        let body = if let Payload::Bytes(bytes) = &self.payload { &bytes[..] } else { &[] };
        let mut message = format!("{:?} {}\r\n", Version::HTTP_11, self.status).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            message.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        };
        field("server", SERVER.as_bytes());
        field("date", date.as_bytes());
        field("content-length", body.len().to_string().as_bytes());
        for (name, value) in &map {
            field(name.as_str(), value.as_bytes());
        }
        message.extend(b"\r\n");
        message.extend(body);
        message
    }
}

/// Why a request is not served.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) status: StatusCode,
    closing: bool,
    content_range: Option<HeaderValue>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, closing: false, content_range: None }
    }

    /// A known method that no resource here has.
    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// No range that a file of `len` bytes has (RFC 9110, 15.5.17).
    pub(super) fn range(len: u64) -> Self {
        let value = HeaderValue::try_from(format!("bytes */{len}")).ok();
        Self { content_range: value, ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE) }
    }

    /// The same, and the connection ends after it.
    pub(crate) fn closing(self) -> Self {
        Self { closing: true, ..self }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let has_body = refusal.status != StatusCode::NOT_MODIFIED;
        let text = if has_body { format!("{}\n", refusal.status) } else { String::new() };
        Self {
            status: refusal.status,
            fields: AnswerFields {
                media_type: has_body.then_some(PLAIN_TEXT),
                content_range: refusal.content_range,
                allow: refusal.status == StatusCode::METHOD_NOT_ALLOWED,
                closing: refusal.closing,
                ..AnswerFields::default()
            },
            payload: Payload::Bytes(text.into()),
        }
    }
}

/// The parts of a file that an answer carries.
pub(super) enum Selection {
    Whole,
    One(std::ops::Range<u64>),
    Many(Multipart),
}

/// `bytes first-last/len`.
pub(super) fn content_range(range: &std::ops::Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end - 1)
}
