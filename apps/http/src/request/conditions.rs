//! Preconditions (RFC 9110, section 13) against one representation of a file.
use super::fields::Fields;
use hyper::header::HeaderValue;
use std::time::SystemTime;

/// What the preconditions say of a GET or HEAD request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send the representation.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// The client wants it in another state: 412.
    Failed,
}

/// The validators of the representation selected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'a> {
    pub(crate) etag: &'a HeaderValue,
    pub(crate) last_modified: &'a HeaderValue,
}

/// Evaluates the preconditions in the order of RFC 9110, 13.2.2.
pub(crate) fn evaluate(fields: &Fields, validators: Validators<'_>) -> Verdict {
    let unmet = match (&fields.if_match, &fields.if_unmodified_since) {
        (Some(list), _) => !matches_strongly(list, validators.etag),
        (None, Some(date)) => is_newer(validators.last_modified, date).unwrap_or(false),
        (None, None) => false,
    };
    let known = match (&fields.if_none_match, &fields.if_modified_since) {
        (Some(list), _) => matches_weakly(list, validators.etag),
        (None, Some(date)) => is_newer(validators.last_modified, date).is_some_and(|newer| !newer),
        (None, None) => false,
    };
    match (unmet, known) {
        (true, _) => Verdict::Failed,
        (false, true) => Verdict::NotModified,
        (false, false) => Verdict::Proceed,
    }
}

/// Whether a `Range` applies: without `If-Range`, or when that names this very state (RFC 9110, 13.1.5).
pub(crate) fn range_applies(if_range: Option<&HeaderValue>, validators: Validators<'_>) -> bool {
    if_range.is_none_or(|value| value == validators.etag || value == validators.last_modified)
}

/// Whether the list holds this tag by the strong comparison: a weak tag never matches.
fn matches_strongly(list: &HeaderValue, etag: &HeaderValue) -> bool {
    tags(list.as_bytes()).any(|tag| tag == b"*" || tag == etag.as_bytes())
}

/// The weak comparison: `W/` does not matter.
fn matches_weakly(list: &HeaderValue, etag: &HeaderValue) -> bool {
    tags(list.as_bytes())
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// The members of a list of entity tags. A comma within quotes separates nothing.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

/// Whether the file changed after the date. A date that cannot be read decides nothing.
fn is_newer(last_modified: &HeaderValue, date: &HeaderValue) -> Option<bool> {
    if last_modified == date {
        return Some(false);
    }
    Some(parse_date(last_modified)? > parse_date(date)?)
}

fn parse_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;
    use hyper::header::HeaderName;

    const TAG: HeaderValue = HeaderValue::from_static("\"a,b\"");
    const DATE: HeaderValue = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn check(request: &[(&'static str, &'static str)], expect: Verdict) {
        let mut map = HeaderMap::new();
        for &(name, value) in request {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let validators = Validators { etag: &TAG, last_modified: &DATE };
        assert_eq!(evaluate(&Fields::read(&map), validators), expect, "{request:?}");
    }

    #[test]
    fn each_precondition_and_their_order() {
        use Verdict::{Failed, NotModified, Proceed};
        check(&[], Proceed);
        check(&[("if-none-match", "\"a,b\"")], NotModified);
        check(&[("if-none-match", "\"x\" , W/\"a,b\"")], NotModified);
        check(&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], NotModified);
        check(&[("if-none-match", "*")], NotModified);
        check(&[("if-none-match", "\"a\"")], Proceed);
        check(&[("if-modified-since", EARLIER)], Proceed);
        check(&[("if-modified-since", SAME)], NotModified);
        check(&[("if-modified-since", LATER)], NotModified);
        check(&[("if-modified-since", "yesterday")], Proceed);
        check(&[("if-none-match", "\"x\""), ("if-modified-since", LATER)], Proceed);
        check(&[("if-match", "\"a,b\"")], Proceed);
        check(&[("if-match", "W/\"a,b\"")], Failed);
        check(&[("if-match", "\"x\"")], Failed);
        check(&[("if-match", "*")], Proceed);
        check(&[("if-unmodified-since", EARLIER)], Failed);
        check(&[("if-unmodified-since", SAME)], Proceed);
        check(&[("if-unmodified-since", "yesterday")], Proceed);
        check(&[("if-match", "*"), ("if-unmodified-since", EARLIER)], Proceed);
        check(&[("if-match", "\"x\""), ("if-none-match", "*")], Failed);
    }

    #[test]
    fn a_range_needs_the_same_state() {
        let validators = Validators { etag: &TAG, last_modified: &DATE };
        for (value, expect) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"x\"", false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", true),
            (LATER, false),
        ] {
            let value = HeaderValue::from_static(value);
            assert_eq!(range_applies(Some(&value), validators), expect, "{value:?}");
        }
        assert!(range_applies(None, validators));
    }
}
