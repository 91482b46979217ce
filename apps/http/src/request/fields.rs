//! The header fields of a request that the server looks at.
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};

/// Fields that change the answer, copied out in one pass so that the request's own map can be used
/// again for the response.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) host_count: usize,
    pub(crate) expects_continue: bool,
    pub(crate) accept_encoding: Option<HeaderValue>,
    pub(crate) range: Option<HeaderValue>,
    pub(crate) if_range: Option<HeaderValue>,
    pub(crate) if_match: Option<HeaderValue>,
    pub(crate) if_none_match: Option<HeaderValue>,
    pub(crate) if_modified_since: Option<HeaderValue>,
    pub(crate) if_unmodified_since: Option<HeaderValue>,
}

impl Fields {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            match *name {
                header::HOST => fields.host_count += 1,
                header::EXPECT => fields.expects_continue = true,
                header::ACCEPT_ENCODING => add(&mut fields.accept_encoding, value),
                header::RANGE => add(&mut fields.range, value),
                header::IF_RANGE => add(&mut fields.if_range, value),
                header::IF_MATCH => add(&mut fields.if_match, value),
                header::IF_NONE_MATCH => add(&mut fields.if_none_match, value),
                header::IF_MODIFIED_SINCE => add(&mut fields.if_modified_since, value),
                header::IF_UNMODIFIED_SINCE => add(&mut fields.if_unmodified_since, value),
                _ => {}
            }
        }
        fields
    }

    /// The value of `Accept-Encoding`.
    pub(super) fn accepted_encodings(&self) -> Option<&[u8]> {
        self.accept_encoding.as_ref().map(HeaderValue::as_bytes)
    }
}

/// Field lines of one name make one list (RFC 9110, 5.2).
fn add(field: &mut Option<HeaderValue>, line: &HeaderValue) {
    let joined = field.take().and_then(|first| {
        let list = [first.as_bytes(), b", ", line.as_bytes()].concat();
        HeaderValue::from_maybe_shared(Bytes::from(list)).ok()
    });
    *field = joined.or_else(|| Some(line.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_name_make_one_list() {
        let mut map = HeaderMap::new();
        map.append(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        map.append(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
        map.append(header::HOST, HeaderValue::from_static("a"));
        map.append(header::HOST, HeaderValue::from_static("b"));
        let fields = Fields::read(&map);
        assert_eq!(fields.accept_encoding.unwrap(), "gzip, br");
        assert_eq!(fields.host_count, 2);
        assert!(fields.range.is_none());
    }
}
