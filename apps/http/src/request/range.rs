//! Byte ranges (RFC 9110, section 14).
use std::ops::Range;

/// Most ranges that one response carries; a request for more gets the whole file.
const RANGES_MAX: usize = 16;

/// What a `Range` field asks of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RangeRequest {
    /// The whole file: the field is malformed, of another unit, or asks for too much.
    Whole,
    /// These parts, each not empty and within the file, at least one.
    Parts(Vec<Range<u64>>),
    /// Nothing that the file has.
    Unsatisfiable,
}

/// Reads a `Range` field for a file of `len` bytes.
///
/// More than 16 ranges, or ranges that together exceed the file, make a response larger than the
/// file: RFC 9110, 14.2 lets the server ignore them, and so it does.
pub(crate) fn parse(field: &[u8], len: u64) -> RangeRequest {
    let Some(specs) = std::str::from_utf8(field).ok().and_then(byte_specs) else {
        return RangeRequest::Whole;
    };
    let mut parts = Vec::new();
    let mut count = 0;
    for spec in specs.split(',').map(|spec| spec.trim_matches([' ', '\t'])) {
        count += 1;
        match parse_spec(spec, len) {
            _ if count > RANGES_MAX => return RangeRequest::Whole,
            None => return RangeRequest::Whole,
            Some(part) => parts.extend(part),
        }
    }
    let total = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
    match parts.len() {
        0 => RangeRequest::Unsatisfiable,
        _ if total > len => RangeRequest::Whole,
        _ => RangeRequest::Parts(parts),
    }
}

fn byte_specs(field: &str) -> Option<&str> {
    let (unit, specs) = field.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(specs)
}

/// One range; `Some(None)` if the file has no byte of it, `None` if it is malformed.
fn parse_spec(spec: &str, len: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = spec.split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => len.saturating_sub(number(suffix)?)..len,
        (first, "") => number(first)?..len,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(len)
        }
    };
    Some((range.start < range.end).then_some(range))
}

/// Digits only; a number too large for 64 bits is beyond every file.
fn number(digits: &str) -> Option<u64> {
    let ok = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    ok.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_those_of_the_standard() {
        use RangeRequest::{Parts, Unsatisfiable, Whole};
        let one = |range| Parts(vec![range]);
        for (field, expect) in [
            ("bytes=0-0", one(0..1)),
            ("bytes=0-499", one(0..500)),
            ("bytes=500-", one(500..1000)),
            ("bytes=-1", one(999..1000)),
            ("bytes=-5000", one(0..1000)),
            ("bytes=990-5000", one(990..1000)),
            ("bytes=0-99999999999999999999999", one(0..1000)),
            ("BYTES=0-0", one(0..1)),
            ("bytes=0-0, -1", Parts(vec![0..1, 999..1000])),
            ("bytes=2000-3000,0-0", one(0..1)),
            ("bytes=1000-", Unsatisfiable),
            ("bytes=1000-1001", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-999,0-999", Whole),
            ("bytes=5-4", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-0,", Whole),
            ("lines=0-0", Whole),
            ("bytes 0-0", Whole),
            ("", Whole),
        ] {
            assert_eq!(parse(field.as_bytes(), 1000), expect, "{field}");
        }
        assert_eq!(parse(b"bytes=0-", 0), Unsatisfiable);
        let many = format!("bytes={}", vec!["0-0"; RANGES_MAX + 1].join(","));
        assert_eq!(parse(many.as_bytes(), 1000), Whole);
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_file(field in "bytes=[0-9,\\- ]{0,40}", len: u64) {
            if let RangeRequest::Parts(parts) = parse(field.as_bytes(), len) {
                prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
            }
        }
    }
}
