//! Requests that are malformed, oversized, or meant to do harm.
use super::*;
use proptest::prelude::*;

#[test]
fn malformed_requests_get_the_right_status() {
    let mut bed = bed();
    let long = "a".repeat(20_000);
    for (request, status) in [
        ("GET / HTTP/1.1\n\n", 400),
        ("GET / HTTP/1.1\nhost: x\nhost: y\n\n", 400),
        ("GET /\u{1} HTTP/1.1\nhost: x\n\n", 400),
        ("GET / HTTP/1.1\nhost: x\nbad header: x\n\n", 400),
        ("GET / HTTP/1.1\nhost: x\ncontent-length: x\n\n", 400),
        ("GET / HTTP/1.1\nhost: x\ncontent-length: 1\ncontent-length: 2\n\n", 400),
        ("GET / HTTP/1.1\nhost: x\ntransfer-encoding: gzip\n\n", 400),
        ("G@T / HTTP/1.1\nhost: x\n\n", 400),
        ("GET\n\n", 400),
        ("GET / HTTP/2.0\nhost: x\n\n", 505),
        ("GET / HTTP/9.9\nhost: x\n\n", 505),
        ("PRI * HTTP/2.0\n\nSM\n\n", 505),
        (&format!("GET /{long} HTTP/1.1\nhost: x\n\n"), 414),
        (&format!("GET /{} HTTP/1.1\nhost: x\n\n", &long[..9000]), 414),
        (&format!("GET / HTTP/1.1\nhost: x\nx: {long}\n\n"), 431),
        (&format!("GET / HTTP/1.1\nhost: x\n{}\n", "a: b\n".repeat(200)), 431),
    ] {
        let response = ask(&mut bed, request);
        let shown = &request[..request.len().min(60)];
        assert_eq!(response.status, status, "{shown:?}");
        assert_eq!(response.field("server"), Some("paravane"), "{shown:?}");
        assert!(response.text().starts_with(&status.to_string()), "{shown:?}");
    }
    let text = bed.log_text();
    let logged: Vec<&str> = text.lines().filter(|line| line.contains("\" 4")).collect();
    assert_eq!(logged.len(), 13, "{text}");
}

#[test]
fn a_bad_request_behind_a_good_one_is_refused_too() {
    let mut bed = bed();
    let bytes = bed.exchange("GET / HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n");
    let statuses: Vec<u16> = parse(&bytes, false).iter().map(|r| r.status).collect();
    assert_eq!(statuses, [200, 400]);
}

#[test]
fn a_file_that_looks_like_a_refusal_is_sent_as_it_is() {
    let content = b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(10_000);
    let mut bed = Bed::new(archive(&[("x", &content)]), "");
    assert!(get(&mut bed, "/x", "").body == content);
}

#[test]
fn empty_lines_before_a_request_do_not_matter() {
    let mut bed = bed();
    let bytes = bed.exchange("\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(parse(&bytes, false)[0].status, 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever comes in: no panic, and only whole responses go out.
    #[test]
    fn any_bytes_are_survived(pieces in proptest::collection::vec(piece(), 0..8)) {
        let mut bed = bed();
        let client = bed.connect();
        for piece in &pieces {
            client.send(piece);
            bed.run();
        }
        client.finish();
        bed.pass(100 * crate::testing::SECOND);
        let bytes = client.received();
        prop_assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 "));
        prop_assert_eq!(bed.server.connection_count(), 0);
        prop_assert_eq!(get(&mut bed, "/", "").status, 200);
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec()),
        Just(b"HEAD /large.bin HTTP/1.1\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"content-length: 5\r\n".to_vec()),
        Just(b"transfer-encoding: chunked\r\n".to_vec()),
        Just(b"range: bytes=0-1,5-\r\n".to_vec()),
        Just(b"5\r\nabcde\r\n0\r\n\r\n".to_vec()),
    ]
}
