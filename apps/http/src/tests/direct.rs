//! Plain requests, which are answered without hyper, and the seam between the two.
use super::*;
use crate::testing::{Client, SECOND};
use proptest::prelude::*;
use std::rc::Rc;

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A file that is sent from where it is, and small enough for the cache.
const LENT_LEN: usize = 50_000;

fn lent() -> Vec<u8> {
    (0..LENT_LEN).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// A server whose files, as far as they fit, are in memory.
fn warm_bed(config: &str) -> Bed {
    let files = archive(&[
        ("index.html", b"<h1>root</h1>"),
        ("a b.txt", b"0123456789"),
        ("style.css", b"plain plain plain"),
        ("style.css.gz", b"gzipped"),
        ("style.css.br", b"brotli"),
        ("lent.bin", &lent()),
        ("large.bin", &large()[..200_000]),
        ("empty.txt", b""),
    ]);
    let mut bed = Bed::new(files, config);
    for path in [
        "/",
        "/a%20b.txt",
        "/style.css",
        "/style.css.gz",
        "/style.css.br",
        "/lent.bin",
        "/empty.txt",
    ] {
        assert_eq!(get(&mut bed, path, "").status, 200);
    }
    bed
}

fn ask_on(bed: &mut Bed, client: &Client, request: &str) -> Vec<u16> {
    client.send(request);
    bed.run();
    parse(&client.received(), false).iter().map(|response| response.status).collect()
}

#[test]
fn plain_requests_need_no_session() {
    let mut bed = warm_bed("");
    let client = bed.connect();
    for _ in 0..3 {
        assert_eq!(ask_on(&mut bed, &client, &REQUEST.repeat(500)), vec![200; 500]);
        assert_eq!(bed.server.session_count(), 0);
    }
    assert_eq!(ask_on(&mut bed, &client, &REQUEST.replace(" / ", " /no ")), [404]);
    assert_eq!(bed.server.session_count(), 1);
    bed.pass(61 * SECOND);
    assert!(client.is_closed(), "idle for too long");
}

#[test]
fn a_file_that_has_to_be_read_costs_one_session() {
    let mut bed = bed();
    let client = bed.connect();
    let (first, second) = REQUEST.split_at(10);
    for request in [REQUEST, REQUEST] {
        assert_eq!(ask_on(&mut bed, &client, request), [200]);
        assert_eq!(bed.server.session_count(), 0);
    }
    assert!(ask_on(&mut bed, &client, first).is_empty());
    assert_eq!(bed.server.session_count(), 1, "its end may take long");
    assert_eq!(ask_on(&mut bed, &client, second), [200]);
    assert_eq!(bed.server.session_count(), 0);
}

#[test]
fn a_head_that_stops_after_answers_gets_408_in_time() {
    let mut bed = warm_bed("");
    let client = bed.connect();
    assert_eq!(ask_on(&mut bed, &client, &[REQUEST, "GET / HT"].concat()), [200]);
    bed.pass(10 * SECOND);
    assert_eq!(parse(&client.received(), false)[0].status, 408);
}

#[test]
fn a_client_that_never_reads_is_not_read_from() {
    let mut bed = warm_bed("");
    let client = bed.connect_with_window(100);
    let burst = REQUEST.repeat(5000);
    client.send(&burst);
    bed.run();
    let answered = |bed: &mut Bed| bed.log_text().lines().count();
    let before = answered(&mut bed);
    assert!(before < 300, "as many as fit into one buffer: {before}");
    bed.pass(28 * SECOND);
    client.open_window(1);
    bed.pass(28 * SECOND);
    assert!(!client.is_aborted(), "it takes a little");
    assert_eq!(answered(&mut bed), before);
    bed.pass(3 * SECOND);
    assert!(client.is_aborted() && client.received_len() == 101);
    assert_eq!(bed.server.shared.metrics.write_timeouts.get(), 1);
    let text = bed.server.shared.metrics.render(bed.server.gauges());
    assert!(text.contains("paravane_http_connections 0\n"), "{text}");
}

#[test]
fn clients_that_never_read_hold_no_more_than_sessions_may() {
    let mut bed = Bed::with_memory(site(), "access_log = false", 10 * 4 * (24 << 10) + 100);
    assert_eq!(get(&mut bed, "/", "").status, 200);
    let clients: Vec<_> = (0..20).map(|_| bed.connect_with_window(0)).collect();
    clients.iter().for_each(|client| client.send(REQUEST.repeat(100)));
    bed.run();
    assert_eq!(bed.server.session_count(), 10);
    assert_eq!(clients.iter().filter(|client| client.is_aborted()).count(), 10);
    assert_eq!(get(&mut bed, "/", "").status, 200, "who takes the answer gets it");
    for client in &clients[..10] {
        client.open_window(100_000);
    }
    bed.run();
    assert_eq!(bed.server.session_count(), 0);
    assert_eq!(parse(&clients[0].received(), false).len(), 100);
}

#[test]
fn a_slow_client_gets_everything_in_order() {
    let mut bed = warm_bed("");
    let lent_request = REQUEST.replace(" / ", " /lent.bin ");
    let client = bed.connect_with_window(0);
    let close = REQUEST.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    client.send([REQUEST, &lent_request, REQUEST, &lent_request, &close, REQUEST].concat());
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        client.open_window(77);
        bed.run();
        bytes.extend(client.received());
    }
    let responses = parse(&bytes, false);
    let lens: Vec<usize> = responses.iter().map(|response| response.body.len()).collect();
    assert_eq!(lens, [13, LENT_LEN, 13, LENT_LEN, 13]);
    assert!(responses[1].body == lent());
    assert_eq!(responses[4].field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn long_bodies_are_lent_and_short_ones_copied() {
    let mut bed = warm_bed("");
    let client = bed.connect();
    client.send([REQUEST, &REQUEST.replace(" / ", " /lent.bin ")].concat());
    bed.run();
    assert_eq!(client.lent_len(), LENT_LEN);
}

#[test]
fn draining_sends_what_is_answered() {
    let mut bed = warm_bed("");
    let client = bed.connect_with_window(10);
    client.send(REQUEST);
    bed.run();
    let server = Rc::clone(&bed.server);
    bed.spawn(async move { server.drain().await });
    bed.run();
    assert!(!client.is_closed());
    client.open_window(1000);
    bed.run();
    assert_eq!(parse(&client.received(), false)[0].status, 200);
    assert!(client.is_closed());
}

/// What a client saw, and what the server wrote down: without the dates, which hyper takes from the
/// machine's clock.
fn serve(pieces: &[Vec<u8>], hyper_only: bool) -> (Vec<u8>, String, String, bool) {
    let mut bed = warm_bed("");
    bed.server.hyper_only.set(hyper_only);
    let client = bed.connect();
    for piece in pieces {
        client.send(piece);
        bed.run();
    }
    let is_closed = client.is_closed();
    client.finish();
    bed.run();
    let bytes = without_dates(&client.received());
    let metrics = bed.server.shared.metrics.render(bed.server.gauges());
    (bytes, bed.log_text(), metrics, is_closed)
}

fn without_dates(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(8).position(|window| window == b"\r\ndate: ") {
        at += found + 8;
        bytes[at..at + 29].fill(b'D');
    }
    bytes
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![8 => Just("GET"), 3 => Just("HEAD"), 1 => Just("OPTIONS")];
    let path = prop::sample::select(vec![
        "/",
        "/?",
        "/index.html?a=b?c",
        "/a%20b.txt",
        "/a b.txt",
        "/style.css",
        "/style.css.gz",
        "/lent.bin",
        "/large.bin",
        "/empty.txt",
        "/nothing",
        "/%2e%2e/x",
        "//",
        "/#x",
        "/\u{e4}",
        "*",
        "http://x/",
        "/%zz",
        "/{}",
    ]);
    let version = prop_oneof![12 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0")];
    let field = prop::sample::select(vec![
        "User-Agent: a\"b",
        "user-agent: second",
        "Referer: http://y/",
        "X-Any: thing",
        "Accept-Encoding: gzip",
        "Accept-Encoding: br;q=0.5, identity",
        "Connection: keep-alive",
        "Accept-Encoding: \u{e4}",
        "TE: trailers",
        "Range: bytes=0-1",
        "If-None-Match: *",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "Content-Length: 0",
        "Host: y",
        "Connection: close",
        "Connection: x, close",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "bad field: x",
        "Empty:",
    ]);
    let host = prop_oneof![12 => Just("Host: x\r\n"), 1 => Just("host:\r\n"), 1 => Just("")];
    let fields = prop::collection::vec(field, 0..3);
    let end = prop_oneof![12 => Just("\r\n"), 1 => Just("\r\n\r\n"), 1 => Just("\n")];
    (method, path, version, host, fields, end).prop_map(
        |(method, path, version, host, fields, end)| {
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            format!("{method} {path} {version}\r\n{host}{fields}{end}").into_bytes()
        },
    )
}

/// Requests of which most are plain, so that runs of those come about.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(vec!["/", "/lent.bin", "/style.css", "/a%20b.txt"]);
    let plain = plain.prop_map(|path| REQUEST.replace(" / ", &format!(" {path} ")).into_bytes());
    prop::collection::vec(prop_oneof![2 => plain, 1 => request()], 1..8)
        .prop_map(|requests| requests.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Nobody can tell from outside whether hyper answers.
    #[test]
    fn both_paths_say_the_same(
        bytes in requests(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<Vec<u8>> =
            cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect();
        let (direct, hyper) = (serve(&pieces, false), serve(&pieces, true));
        prop_assert_eq!(String::from_utf8_lossy(&direct.0), String::from_utf8_lossy(&hyper.0));
        prop_assert_eq!((direct.1, direct.2, direct.3), (hyper.1, hyper.2, hyper.3));
    }
}
