//! Connections over time: keep-alive, pipelining, timeouts, limits, draining.
use super::*;
use crate::testing::SECOND;
use std::cell::Cell;
use std::rc::Rc;

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn statuses(bytes: &[u8]) -> Vec<u16> {
    parse(bytes, false).iter().map(|response| response.status).collect()
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let mut bed = bed();
    let client = bed.connect();
    for _ in 0..3 {
        client.send(REQUEST);
        bed.run();
        assert_eq!(statuses(&client.received()), [200]);
        bed.pass(59 * SECOND);
        assert!(!client.is_closed());
    }
    bed.pass(2 * SECOND);
    assert!(client.is_closed(), "idle for too long");
    assert_eq!(bed.server.connection_count(), 1, "waiting for the client to close, too");
    assert!(client.received().is_empty(), "an idle connection ends without a word");
    bed.pass(2 * SECOND);
    assert!(client.is_aborted() && bed.server.connection_count() == 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut bed = bed();
    let client = bed.connect();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let paths = ["/", "/nothing", "/a%20b.txt", "/large.bin", "/docs", "/empty.txt"];
    let burst: String = paths.iter().cycle().take(60).map(|path| request(path)).collect();
    client.send(burst);
    bed.run();
    let expect: Vec<u16> = [200, 404, 200, 200, 301, 200].repeat(10);
    assert_eq!(statuses(&client.received()), expect);
}

#[test]
fn connections_end_when_asked_to() {
    let mut bed = bed();
    for request in
        ["GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
    {
        let client = bed.connect();
        client.send(request);
        bed.run();
        assert_eq!(statuses(&client.received()), [200]);
        assert!(client.is_closed());
    }
    let client = bed.connect();
    client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    bed.run();
    assert!(!client.is_closed());
}

#[test]
fn a_client_that_stops_sending_still_gets_its_answer() {
    let mut bed = bed();
    let client = bed.connect_with_window(1000);
    client.send("GET /large.bin HTTP/1.1\r\nhost: x\r\n\r\n");
    client.finish();
    bed.run();
    client.open_window(2_000_000);
    bed.run();
    assert!(parse(&client.received(), false)[0].body == large());
    assert!(client.is_closed());
}

#[test]
fn a_head_that_trickles_in_gets_408_in_time() {
    let mut bed = bed();
    let client = bed.connect();
    let start = "GET / HTTP/1.1\r\nhost: x\r\nx: ";
    client.send(start);
    for _ in 0..9 {
        bed.pass(SECOND);
        client.send("a");
        bed.run();
        assert!(client.received().is_empty());
    }
    bed.pass(SECOND);
    let responses = parse(&client.received(), false);
    assert_eq!((responses[0].status, responses[0].field("connection")), (408, Some("close")));
    assert!(bed.log_text().contains("\"GET / HTTP/1.1\" 408 "));
}

#[test]
fn a_connection_without_a_word_is_closed() {
    let mut bed = bed();
    let client = bed.connect();
    bed.pass(10 * SECOND);
    assert!(client.is_closed() && client.received().is_empty());
}

#[test]
fn a_body_that_trickles_in_gets_408_in_time() {
    let mut bed = bed();
    let client = bed.connect();
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
    for _ in 0..29 {
        bed.pass(SECOND);
        client.send("a");
    }
    assert!(client.received().is_empty());
    bed.pass(SECOND);
    assert_eq!(statuses(&client.received()), [408]);
    let log = bed.log_text();
    assert!(log.contains("\"POST / HTTP/1.1\" 408 ") && log.lines().count() == 1, "{log}");
}

#[test]
fn bodies_are_read_away_up_to_a_limit() {
    let mut bed = Bed::new(site(), "[limits]\nbody_bytes = 10");
    let client = bed.connect();
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123456789");
    client.send(
        "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    client.send(REQUEST);
    bed.run();
    assert_eq!(statuses(&client.received()), [405, 200, 200]);
    for request in [
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
    ] {
        let client = bed.connect();
        client.send(request);
        bed.pass(SECOND);
        let responses = parse(&client.received(), false);
        assert_eq!((responses[0].status, responses[0].field("connection")), (413, Some("close")));
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_asks_first_is_answered_at_once() {
    let mut bed = bed();
    for (method, status) in [("POST", 405), ("GET", 200)] {
        let fields = "host: x\nexpect: 100-continue\ncontent-length: 5\n\n";
        let request = format!("{method} / HTTP/1.1\n{fields}");
        check(&mut bed, &request, status, &["connection: close"]);
    }
}

#[test]
fn a_client_that_takes_nothing_is_reset() {
    let mut bed = bed();
    let client = bed.connect_with_window(5000);
    client.send("GET /large.bin HTTP/1.1\r\nhost: x\r\n\r\n");
    bed.pass(29 * SECOND);
    client.open_window(1);
    bed.pass(29 * SECOND);
    assert!(!client.is_aborted(), "it takes a little");
    bed.pass(2 * SECOND);
    assert!(client.is_aborted());
    assert_eq!(client.received_len(), 5001);
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    let mut bed = bed();
    let slow: Vec<_> = (0..500)
        .map(|i| {
            let client = bed.connect_with_window(1000);
            let sent =
                if i % 2 == 0 { "GET /large.bin HTTP/1.1\r\nhost: x\r\n\r\n" } else { "GET" };
            client.send(sent);
            client
        })
        .collect();
    bed.run();
    assert_eq!(get(&mut bed, "/", "").status, 200);
    assert!(get(&mut bed, "/large.bin", "").body == large(), "though all large buffers are taken");
    drop(slow);
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let mut bed = Bed::new(site(), "[limits]\nconnections = 2");
    let first = bed.connect();
    bed.pass(SECOND);
    let second = bed.connect();
    first.send(REQUEST);
    bed.run();
    let third = bed.connect();
    assert!(second.is_closed(), "idle since it came; the first has just been served");
    assert!(!first.is_closed() && !third.is_closed());
    assert_eq!(bed.server.connection_count(), 3, "its client may still close in order");
    bed.pass(2 * SECOND);
    assert!(second.is_aborted(), "it did not");
    assert_eq!(bed.server.connection_count(), 2);
}

#[test]
fn a_full_server_says_so() {
    let mut bed = Bed::new(site(), "[limits]\nconnections = 2");
    let busy: Vec<_> = (0..2).map(|_| bed.connect_with_window(0)).collect();
    busy.iter().for_each(|client| client.send(REQUEST));
    bed.run();
    let late = bed.connect();
    let responses = parse(&late.received(), false);
    assert_eq!((responses[0].status, responses[0].field("connection")), (503, Some("close")));
    assert!(late.is_closed());
    busy[0].open_window(1000);
    bed.run();
    bed.connect();
    assert!(busy[0].is_closed(), "idle now, so that it can make room");
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_the_next() {
    let mut bed = bed();
    let idle: Vec<_> = (0..10_000).map(|_| bed.connect()).collect();
    let most = bed.server.connections_max();
    assert!(bed.server.connection_count() <= most + 64, "few are on their way out");
    bed.pass(2 * SECOND);
    assert_eq!(bed.server.connection_count(), most);
    assert_eq!(get(&mut bed, "/", "").status, 200);
    drop(idle);
}

/// Starts to drain and tells when that is done.
fn drain(bed: &mut Bed) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let (server, flag) = (Rc::clone(&bed.server), Rc::clone(&done));
    bed.spawn(async move {
        server.drain().await;
        flag.set(true);
    });
    bed.run();
    done
}

#[test]
fn draining_finishes_what_is_under_way() {
    let mut bed = bed();
    let (fresh, used, busy) = (bed.connect(), bed.connect(), bed.connect_with_window(5000));
    used.send(REQUEST);
    busy.send("GET /large.bin HTTP/1.1\r\nhost: x\r\n\r\n");
    bed.run();
    used.received();
    let done = drain(&mut bed);
    assert!(fresh.is_closed() && used.is_closed() && !done.get());
    assert!(bed.connect().is_aborted(), "nobody gets in any more");
    busy.open_window(2_000_000);
    bed.run();
    assert!(parse(&busy.received(), false)[0].body == large());
    assert!(done.get() && busy.is_closed());
}

#[test]
fn draining_ends_in_time() {
    let mut bed = bed();
    let stuck = bed.connect_with_window(10);
    stuck.send(REQUEST);
    bed.run();
    let done = drain(&mut bed);
    bed.pass(9 * SECOND);
    assert!(!done.get());
    bed.pass(SECOND);
    assert!(done.get());
}
