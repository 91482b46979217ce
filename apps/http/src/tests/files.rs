//! Files, directories, validators, codings and pages of the server's own.
use super::*;

#[test]
fn a_file_comes_with_its_description() {
    let mut bed = bed();
    let expect = [
        "content-type: text/html; charset=utf-8",
        "content-length: 13",
        "last-modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "accept-ranges: bytes",
        "server: paravane",
        "!vary",
        "!content-encoding",
        "!connection",
    ];
    let response = check(&mut bed, "GET / HTTP/1.1\nhost: x\n\n", 200, &expect);
    assert_eq!(response.text(), "<h1>root</h1>");
    let response = check(&mut bed, "HEAD / HTTP/1.1\nhost: x\n\n", 200, &expect);
    assert_eq!(response.body, b"");
}

#[test]
fn paths_find_files_or_not() {
    let mut bed = bed();
    for (path, status) in [
        ("/index.html", 200),
        ("/docs/", 200),
        ("/a%20b.txt", 200),
        ("/a%20b.txt?query=%00", 200),
        ("http://x/docs/", 200),
        ("/docs", 301),
        ("/nothing", 404),
        ("/docs/nothing/", 404),
        ("//index.html", 404),
        ("/docs/../index.html", 400),
        ("/%2e%2e/index.html", 400),
        ("/docs%2findex.html", 400),
        ("/a%", 400),
        ("/a%00", 400),
        ("/..\\x", 400),
    ] {
        assert_eq!(get(&mut bed, path, "").status, status, "{path}");
    }
    assert_eq!(get(&mut bed, "/docs", "").field("location"), Some("/docs/"));
    assert_eq!(get(&mut bed, "/docs?a=b", "").field("location"), Some("/docs/?a=b"));
}

#[test]
fn empty_and_large_files_come_whole() {
    let mut bed = bed();
    assert_eq!(get(&mut bed, "/empty.txt", "").body, b"");
    let response = get(&mut bed, "/large.bin", "");
    assert_eq!(response.field("content-type"), Some("application/octet-stream"));
    assert!(response.body == large());
    let request = "HEAD /large.bin HTTP/1.1\nhost: x\n\n";
    check(&mut bed, request, 200, &["content-length: 1200000"]);
}

#[test]
fn a_small_file_is_read_once() {
    let mut bed = bed();
    get(&mut bed, "/", "");
    let reads = bed.disk.reads.get();
    assert_eq!(get(&mut bed, "/index.html", "").status, 200);
    assert_eq!(bed.disk.reads.get(), reads);
}

#[test]
fn validators_make_conditional_requests() {
    let mut bed = bed();
    for path in ["/", "/large.bin"] {
        let etag = get(&mut bed, path, "").field("etag").unwrap().to_owned();
        assert!(etag.starts_with('"'), "strong");
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (fields, status) in [
            (format!("if-none-match: {etag}\n"), 304),
            (format!("if-none-match: \"x\", {etag}\n"), 304),
            ("if-none-match: \"x\"\n".into(), 200),
            (format!("if-modified-since: {date}\n"), 304),
            (format!("if-match: {etag}\n"), 200),
            ("if-match: \"x\"\n".into(), 412),
            ("if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT\n".into(), 412),
        ] {
            let response = get(&mut bed, path, &fields);
            assert_eq!(response.status, status, "{path} {fields}");
            if status == 304 {
                assert_eq!(response.field("etag"), Some(&etag[..]));
                assert_eq!(
                    (response.field("content-length"), &response.body[..]),
                    (None, &b""[..])
                );
            }
        }
    }
}

#[test]
fn codings_are_negotiated() {
    let mut bed = bed();
    let mut tags = Vec::new();
    for (accept, coding, body) in [
        ("", None, "plain plain plain"),
        ("accept-encoding: gzip, br\n", Some("br"), "brotli"),
        ("accept-encoding: gzip\n", Some("gzip"), "gzipped"),
    ] {
        let response = get(&mut bed, "/style.css", accept);
        assert_eq!((response.field("content-encoding"), response.text()), (coding, body));
        assert_eq!(response.field("content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(response.field("vary"), Some("accept-encoding"));
        tags.push(response.field("etag").unwrap().to_owned());
    }
    tags.dedup();
    assert_eq!(tags.len(), 3, "each form has a tag of its own: {tags:?}");
    let fields = format!("accept-encoding: br\nif-none-match: {}\n", tags[1]);
    let response = get(&mut bed, "/style.css", &fields);
    assert_eq!((response.status, response.field("vary")), (304, Some("accept-encoding")));
    let direct = get(&mut bed, "/style.css.gz", "accept-encoding: gzip\n");
    assert_eq!(direct.field("content-type"), Some("application/gzip"));
    assert_eq!(direct.field("content-encoding"), None);
}

#[test]
fn methods_beyond_reading_are_refused() {
    let mut bed = bed();
    let allow = "allow: GET, HEAD, OPTIONS";
    for (method, status, expect) in [
        ("POST", 405, &[allow][..]),
        ("DELETE", 405, &[allow]),
        ("TRACE", 405, &[allow]),
        ("BREW", 501, &["!allow"]),
        ("OPTIONS", 204, &[allow]),
    ] {
        check(&mut bed, &format!("{method} / HTTP/1.1\nhost: x\n\n"), status, expect);
    }
    check(&mut bed, "OPTIONS * HTTP/1.1\nhost: x\n\n", 204, &[allow]);
    check(&mut bed, "GET * HTTP/1.1\nhost: x\n\n", 400, &[]);
    check(&mut bed, "CONNECT x:1 HTTP/1.1\nhost: x\n\n", 405, &[allow]);
}

#[test]
fn the_site_may_bring_its_own_page_for_what_is_missing() {
    let mut bed = Bed::new(archive(&[("404.html", b"<h1>lost</h1>")]), "");
    let expect = ["content-type: text/html; charset=utf-8", "!etag", "!last-modified"];
    let response = check(&mut bed, "GET /x HTTP/1.1\nhost: x\n\n", 404, &expect);
    assert_eq!(response.text(), "<h1>lost</h1>");
    check(&mut bed, "HEAD /x HTTP/1.1\nhost: x\n\n", 404, &["content-length: 13"]);
    assert_eq!(get(&mut bed, "/404.html", "").status, 200);
    assert_eq!(get(&mut super::bed(), "/x", "").text(), "404 Not Found\n");
}

#[test]
fn a_failing_disk_is_an_internal_error() {
    let mut bed = bed();
    get(&mut bed, "/", "");
    bed.disk.broken.set(true);
    assert_eq!(get(&mut bed, "/", "").status, 200, "from the cache");
    assert_eq!(get(&mut bed, "/a%20b.txt", "").status, 500);
    assert_eq!(get(&mut bed, "/large.bin", "").status, 500);
}

#[test]
fn metrics_count_what_happened() {
    let mut bed = bed();
    get(&mut bed, "/", "");
    get(&mut bed, "/nothing", "");
    let page = get(&mut bed, "/.paravane/metrics", "");
    let media_type = page.field("content-type").unwrap();
    assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"));
    for line in [
        "paravane_http_responses_total{status=\"200\"} 1",
        "paravane_http_responses_total{status=\"404\"} 1",
        "paravane_http_body_bytes_total 27",
        "paravane_http_connections_accepted_total 3",
        "paravane_http_connections 1",
        "paravane_site_files 8",
    ] {
        assert!(page.text().lines().any(|have| have == line), "{line} in {}", page.text());
    }
    let mut bed = Bed::new(site(), "metrics = false");
    assert_eq!(get(&mut bed, "/.paravane/metrics", "").status, 404);
}

#[test]
fn the_access_log_has_a_line_per_request() {
    let mut bed = bed();
    get(&mut bed, "/?q", "user-agent: test\nreferer: there\n");
    ask(&mut bed, "HEAD / HTTP/1.0\n\n");
    get(&mut bed, "/large.bin", "range: bytes=0-9\n");
    ask(&mut bed, "nonsense\n\n");
    let text = bed.log_text();
    let lines: Vec<&str> = text.lines().collect();
    let stamp = "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000]";
    assert_eq!(
        lines,
        [
            format!("{stamp} \"GET /?q HTTP/1.1\" 200 13 \"there\" \"test\""),
            format!("{stamp} \"HEAD / HTTP/1.0\" 200 0 \"-\" \"-\""),
            format!("{stamp} \"GET /large.bin HTTP/1.1\" 206 10 \"-\" \"-\""),
            format!("{stamp} \"nonsense\" 400 0 \"-\" \"-\""),
        ]
    );
    let mut bed = Bed::new(site(), "access_log = false");
    get(&mut bed, "/", "");
    assert_eq!(bed.log_text(), "");
}

#[test]
fn long_bodies_are_sent_from_where_they_are() {
    let body = vec![b'x'; 2048];
    let files: [(&str, &[u8]); 3] =
        [("short", &body[..2047]), ("cached", &body), ("large.bin", large())];
    let mut bed = Bed::new(archive(&files), "");
    for (path, len, lent) in
        [("short", 2047, 0), ("cached", 2048, 2048), ("large.bin", large().len(), large().len())]
    {
        let client = bed.connect();
        client.send(format!("GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        bed.run();
        assert_eq!(client.lent_len(), lent, "{path}");
        assert_eq!(parse(&client.received(), false)[0].body.len(), len);
    }
}

#[test]
fn a_piece_that_is_taken_bit_by_bit_stays_the_same() {
    let mut bed = bed();
    let client = bed.connect_with_window(0);
    client.send("GET /large.bin HTTP/1.1\r\nhost: x\r\n\r\n");
    let (mut received, mut window) = (Vec::new(), 1);
    while received.len() < large().len() || !received.ends_with(&large()[large().len() - 16..]) {
        window = window * 7919 % 50_021;
        client.open_window(window);
        bed.run();
        received.extend(client.received());
    }
    assert!(parse(&received, false)[0].body == large());
}
