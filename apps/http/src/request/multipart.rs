//! Several ranges in one response: `multipart/byteranges` (RFC 9110, section 14.6).
use super::answer::content_range;
use crate::content::Segment;
use crate::site::File;
use bytes::Bytes;
use hyper::header::HeaderValue;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// A body with several parts.
#[derive(Debug)]
pub(super) struct Multipart {
    pub(super) media_type: HeaderValue,
    pub(super) segments: VecDeque<Segment>,
    /// Bytes of the whole body.
    pub(super) len: u64,
}

impl Multipart {
    /// The body with these parts of `file`; the ranges lie within it.
    pub(super) fn new(file: &File, media_type: &str, ranges: &[Range<u64>]) -> Option<Self> {
        let boundary = boundary();
        let mut segments = VecDeque::with_capacity(2 * ranges.len() + 1);
        let mut len = 0;
        for range in ranges {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {}\r\n\r\n",
                content_range(range, file.len)
            );
            len += head.len() as u64 + range.end - range.start;
            segments.push_back(Segment::Bytes(head.into()));
            let offset = file.offset + range.start;
            segments.push_back(Segment::Disk { offset, len: range.end - range.start });
        }
        let end = format!("\r\n--{boundary}--\r\n");
        len += end.len() as u64;
        segments.push_back(Segment::Bytes(Bytes::from(end)));
        let media_type = format!("multipart/byteranges; boundary={boundary}");
        Some(Self { media_type: media_type.try_into().ok()?, segments, len })
    }
}

/// A separator that no file can be made to contain: 128 random bits.
fn boundary() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}
