//! Request paths: from the target's octets to a path in the site.
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// A path that no server should look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

/// Decodes the path of a request target and takes its leading slash off.
///
/// # Errors
/// For a path that is not absolute, has a broken percent-encoding, an encoded slash, a backslash, a
/// NUL, or a `..` segment. None of them names a file of any site; clients resolve `..` themselves
/// (RFC 3986, 5.2.4), so whoever sends one is probing.
pub(crate) fn decode(path: &str) -> Result<Cow<'_, [u8]>, BadPath> {
    let path = path.strip_prefix('/').ok_or(BadPath)?.as_bytes();
    let decoded = if path.contains(&b'%') {
        check_encoding(path)?;
        Cow::from(percent_decode(path))
    } else {
        Cow::Borrowed(path)
    };
    let bad = decoded.iter().any(|&byte| byte == 0 || byte == b'\\') || climbs(&decoded);
    if bad { Err(BadPath) } else { Ok(decoded) }
}

/// Whether every `%` has its two digits and none of them makes a slash.
fn check_encoding(path: &[u8]) -> Result<(), BadPath> {
    for (at, _) in path.iter().enumerate().filter(|&(_, &byte)| byte == b'%') {
        match path.get(at + 1..at + 3) {
            Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                if *high == b'2' && low.eq_ignore_ascii_case(&b'f') {
                    return Err(BadPath);
                }
            }
            _ => return Err(BadPath),
        }
    }
    Ok(())
}

fn climbs(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == b"..") && path.split(|&b| b == b'/').any(|s| s == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_decoded_or_refused() {
        for (path, expect) in [
            ("/", Some("")),
            ("/a/b.html", Some("a/b.html")),
            ("/a%20b", Some("a b")),
            ("/%C3%A4", Some("ä")),
            ("/a..b/...", Some("a..b/...")),
            ("//a", Some("/a")),
            ("", None),
            ("*", None),
            ("a", None),
            ("/..", None),
            ("/a/../b", None),
            ("/%2e%2E/b", None),
            ("/a%2fb", None),
            ("/a%2Fb", None),
            ("/a%5cb", None),
            ("/a\\b", None),
            ("/a%00", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%4g", None),
        ] {
            let result = decode(path).ok();
            assert_eq!(result.as_deref(), expect.map(str::as_bytes), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_decoded_path_escapes(path in "/[a%./\\\\0-9A-Fef]{0,24}") {
            if let Ok(decoded) = decode(&path) {
                prop_assert!(decoded.split(|&b| b == b'/').all(|segment| segment != b".."));
                prop_assert!(!decoded.contains(&0) && !decoded.contains(&b'\\'));
                let slashes = |bytes: &[u8]| bytes.iter().filter(|&&b| b == b'/').count();
                prop_assert_eq!(slashes(&decoded) + 1, slashes(path.as_bytes()));
            }
        }

        #[test]
        fn any_encoded_name_is_found_again(name in "[^/\\\\\0]{1,12}") {
            prop_assume!(name != "..");
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let path = format!("/{encoded}");
            let decoded = decode(&path).unwrap();
            prop_assert_eq!(decoded.as_ref(), name.as_bytes());
        }
    }
}
