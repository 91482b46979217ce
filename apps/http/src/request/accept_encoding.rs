//! Content negotiation by `Accept-Encoding` (RFC 9110, section 12.5.3).
use crate::site::Coding;

/// How much a client wants a coding, in thousandths; 0 is not at all.
type Quality = u16;

/// The codings among `offered` that the field accepts and prefers to the plain form, or ranks alike,
/// best first. Without the field the plain form is the one to send.
pub(crate) fn preferred(field: &[u8], offered: impl Fn(Coding) -> bool) -> Option<Coding> {
    let field = std::str::from_utf8(field).unwrap_or("");
    let plain = quality(field, "identity").unwrap_or(1);
    let mut best: Option<(Quality, Coding)> = None;
    for coding in Coding::ALL.into_iter().filter(|&coding| offered(coding)) {
        let quality = coding_quality(field, coding);
        let beats = best.is_none_or(|(best, _)| quality > best);
        if quality > 0 && quality >= plain && beats {
            best = Some((quality, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

fn coding_quality(field: &str, coding: Coding) -> Quality {
    let alias = (coding == Coding::Gzip).then(|| quality(field, "x-gzip")).flatten();
    quality(field, coding.token()).or(alias).or_else(|| quality(field, "*")).unwrap_or(0)
}

/// The quality that the field gives this very token.
fn quality(field: &str, token: &str) -> Option<Quality> {
    field.split(',').find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_token = parts.next()?.eq_ignore_ascii_case(token);
        is_token.then(|| parts.find_map(weight).unwrap_or(1000))
    })
}

/// The value of a `q` parameter. A malformed one counts as 0: the plain form is always right.
fn weight(parameter: &str) -> Option<Quality> {
    let (name, value) = parameter.split_once('=')?;
    name.trim_end().eq_ignore_ascii_case("q").then(|| thousandths(value.trim_start()).unwrap_or(0))
}

fn thousandths(value: &str) -> Option<Quality> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits_ok = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let whole: Quality = match whole {
        "0" => 0,
        "1" => 1000,
        _ => return None,
    };
    let fraction: Quality = format!("{fraction:0<3}").parse().ok().filter(|_| digits_ok)?;
    (whole + fraction <= 1000).then_some(whole + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_best_coding_wins() {
        use Coding::{Brotli, Gzip};
        for (field, expect) in [
            ("gzip, deflate, br", Some(Brotli)),
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZIP;Q=1.0", Some(Gzip)),
            ("gzip;q=1.0, br;q=0.9", Some(Gzip)),
            ("gzip;q=0", None),
            ("br;q=0.001", Some(Brotli)),
            ("*", Some(Brotli)),
            ("br;q=0, *", Some(Gzip)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some(Gzip)),
            ("identity;q=0", None),
            ("deflate", None),
            ("gzip;q=nonsense", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("", None),
        ] {
            assert_eq!(preferred(field.as_bytes(), |_| true), expect, "{field}");
        }
        assert_eq!(preferred(b"br, gzip;q=0.1", |coding| coding == Gzip), Some(Gzip));
    }

    proptest! {
        #[test]
        fn what_is_not_offered_is_never_chosen(field in "[a-z*;=,. 0-9]{0,40}") {
            prop_assert_eq!(preferred(field.as_bytes(), |_| false), None);
        }

        #[test]
        fn a_weight_is_read_as_written(thousandth in 0_u16..=1000) {
            let text = format!("{}.{:03}", thousandth / 1000, thousandth % 1000);
            prop_assert_eq!(thousandths(&text), Some(thousandth));
        }
    }
}
