//! Partial responses.
use super::*;
use proptest::prelude::*;

#[test]
fn one_range_of_small_and_large_files() {
    let mut bed = bed();
    for (path, range, content_range, body) in [
        ("/a%20b.txt", "0-0", "bytes 0-0/10", b"0".to_vec()),
        ("/a%20b.txt", "3-5", "bytes 3-5/10", b"345".to_vec()),
        ("/a%20b.txt", "-2", "bytes 8-9/10", b"89".to_vec()),
        ("/a%20b.txt", "7-100", "bytes 7-9/10", b"789".to_vec()),
        ("/large.bin", "511-513", "bytes 511-513/1200000", large()[511..514].to_vec()),
        ("/large.bin", "-1", "bytes 1199999-1199999/1200000", vec![0]),
        (
            "/large.bin",
            "1000-999999",
            "bytes 1000-999999/1200000",
            large()[1000..1_000_000].to_vec(),
        ),
    ] {
        let response = get(&mut bed, path, &format!("range: bytes={range}\n"));
        assert_eq!(response.status, 206, "{path} {range}");
        assert_eq!(response.field("content-range"), Some(content_range));
        assert!(response.body == body, "{path} {range}");
    }
}

#[test]
fn ranges_that_cannot_be_had() {
    let mut bed = bed();
    for (path, total) in [("/a%20b.txt", 10), ("/large.bin", 1_200_000), ("/empty.txt", 0)] {
        let response = get(&mut bed, path, "range: bytes=2000000-\n");
        assert_eq!(response.status, 416);
        assert_eq!(response.field("content-range"), Some(&format!("bytes */{total}")[..]));
    }
    for ignored in ["bytes=x", "lines=1-2", "bytes=0-9,0-9"] {
        assert_eq!(get(&mut bed, "/a%20b.txt", &format!("range: {ignored}\n")).status, 200);
    }
    let head = "HEAD /a%20b.txt HTTP/1.1\nhost: x\nrange: bytes=0-0\n\n";
    check(&mut bed, head, 200, &["content-length: 10", "!content-range"]);
}

#[test]
fn if_range_decides_between_part_and_whole() {
    let mut bed = bed();
    let etag = get(&mut bed, "/a%20b.txt", "").field("etag").unwrap().to_owned();
    for (value, status) in [
        (&etag[..], 206),
        ("\"x\"", 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 206),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
    ] {
        let fields = format!("range: bytes=0-0\nif-range: {value}\n");
        assert_eq!(get(&mut bed, "/a%20b.txt", &fields).status, status, "{value}");
    }
}

/// Takes a `multipart/byteranges` body apart: content range and bytes of each part.
fn parts(response: &Response) -> Vec<(String, Vec<u8>)> {
    let media_type = response.field("content-type").unwrap();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = response.body.strip_prefix(delimiter.as_bytes()).unwrap();
    let mut parts = Vec::new();
    while rest != b"--\r\n" {
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let range = head.lines().find_map(|line| line.strip_prefix("Content-Range: ")).unwrap();
        let (first, last) = range["bytes ".len()..].split_once('-').unwrap();
        let last = last.split('/').next().unwrap();
        let number = |digits: &str| digits.parse::<usize>().unwrap();
        let len = number(last) - number(first) + 1;
        parts.push((range.to_owned(), rest[end + 4..end + 4 + len].to_vec()));
        rest = rest[end + 4 + len..].strip_prefix(delimiter.as_bytes()).unwrap();
    }
    parts
}

#[test]
fn several_ranges_come_as_multipart() {
    let mut bed = bed();
    let response = get(&mut bed, "/a%20b.txt", "range: bytes=0-1, 4-4, -1\n");
    assert_eq!((response.status, response.field("content-range")), (206, None));
    let expect = [("bytes 0-1/10", "01"), ("bytes 4-4/10", "4"), ("bytes 9-9/10", "9")];
    let expect = expect.map(|(range, body)| (range.to_owned(), body.as_bytes().to_vec()));
    assert_eq!(parts(&response), expect);
    let response = get(&mut bed, "/large.bin", "range: bytes=100-400000,700000-1100000\n");
    let parts = parts(&response);
    assert!(parts[0].1 == large()[100..=400_000] && parts[1].1 == large()[700_000..=1_100_000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_range_of_a_large_file_is_exact(first in 0_usize..1_200_000, len in 1_usize..700_000) {
        let mut bed = bed();
        let last = (first + len - 1).min(1_199_999);
        let response = get(&mut bed, "/large.bin", &format!("range: bytes={first}-{last}\n"));
        prop_assert_eq!(response.status, 206);
        prop_assert!(response.body == large()[first..=last]);
    }
}
