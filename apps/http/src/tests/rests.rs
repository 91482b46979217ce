//! Connections at rest: hyper's state is given back and made anew, and nobody notices.
use super::{bed, parse, site};
use crate::connection::{self, Exchange, Waits};
use crate::testing::{Bed, Client, SECOND};
use std::rc::Rc;

/// A request that is hyper's.
const REQUEST: &str = "GET /a%20b.txt HTTP/1.1\r\nhost: x\r\nif-none-match: \"x\"\r\n\r\n";

fn statuses(client: &Client) -> Vec<u16> {
    parse(&client.received(), false).iter().map(|response| response.status).collect()
}

fn ask(bed: &mut Bed, client: &Client) -> Vec<u16> {
    client.send(REQUEST);
    bed.run();
    statuses(client)
}

#[test]
fn a_connection_that_stays_idle_has_no_session() {
    let mut bed = bed();
    let clients: Vec<_> = (0..50).map(|_| bed.connect()).collect();
    assert_eq!(bed.server.session_count(), 0, "nothing was asked yet");
    for _ in 0..3 {
        for client in &clients {
            assert_eq!(ask(&mut bed, client), [200]);
        }
        assert_eq!(bed.server.session_count(), 50, "the next request may come soon");
        bed.pass(2 * SECOND);
        assert_eq!(bed.server.session_count(), 0);
    }
    bed.pass(59 * SECOND);
    assert!(clients.iter().all(Client::is_closed), "the idle time runs on at rest");
}

#[test]
fn a_connection_in_use_keeps_its_session() {
    let mut bed = bed();
    let (busy, idle) = (bed.connect(), bed.connect());
    assert_eq!(ask(&mut bed, &idle), [200]);
    for _ in 0..10 {
        assert_eq!(ask(&mut bed, &busy), [200]);
        bed.pass(SECOND / 4);
    }
    assert_eq!(bed.server.session_count(), 1);
}

#[test]
fn a_request_that_has_begun_is_not_lost() {
    let mut bed = bed();
    let client = bed.connect();
    let (begin, end) = REQUEST.split_at(20);
    client.send([REQUEST, begin].concat());
    bed.run();
    assert_eq!(statuses(&client), [200]);
    bed.pass(2 * SECOND);
    client.send(end);
    bed.run();
    assert_eq!(statuses(&client), [200]);
    client.send([REQUEST, begin].concat());
    bed.pass(9 * SECOND);
    assert_eq!(statuses(&client), [200]);
    bed.pass(2 * SECOND);
    assert_eq!(statuses(&client), [408], "it is waited for as for any other");
}

/// A server with memory for so many sessions.
fn bed_with_sessions(count: u64) -> Bed {
    // A little more, as the share is rounded down.
    Bed::with_memory(site(), "access_log = false", count * 4 * (24 << 10) + 100)
}

#[test]
fn sessions_are_bounded() {
    let mut bed = bed_with_sessions(10);
    let clients: Vec<_> = (0..30).map(|_| bed.connect()).collect();
    for _ in 0..2 {
        for client in &clients {
            assert_eq!(ask(&mut bed, client), [200]);
            assert!(bed.server.session_count() <= 6, "many idle ones rest at once");
        }
    }
    clients[..10].iter().for_each(|client| client.send("GET"));
    bed.run();
    assert_eq!(bed.server.session_count(), 10);
    assert_eq!(ask(&mut bed, &clients[20]), [503], "all are busy");
    assert!(clients[20].is_closed());
    clients[0].send(&REQUEST[3..]);
    bed.run();
    assert_eq!(statuses(&clients[0]), [200]);
    assert_eq!(ask(&mut bed, &clients[21]), [200], "one is idle");
}

#[test]
fn connections_at_rest_make_room_and_leave_at_the_end() {
    let mut bed = Bed::new(site(), "[limits]\nconnections = 2");
    let clients = [bed.connect(), bed.connect()];
    for client in &clients {
        assert_eq!(ask(&mut bed, client), [200]);
        bed.pass(2 * SECOND);
    }
    let third = bed.connect();
    assert!(clients[0].is_closed() && !clients[1].is_closed(), "the longest idle one");
    assert_eq!(ask(&mut bed, &third), [200]);
    bed.pass(2 * SECOND);
    let server = Rc::clone(&bed.server);
    bed.spawn(async move { server.drain().await });
    bed.run();
    assert!(clients[1].is_closed() && third.is_closed());
    assert_eq!(bed.server.connection_count(), 0);
}

#[test]
fn a_client_may_leave_a_connection_at_rest() {
    let mut bed = bed();
    let client = bed.connect();
    assert_eq!(ask(&mut bed, &client), [200]);
    bed.pass(2 * SECOND);
    client.finish();
    bed.run();
    assert!(client.is_closed());
    assert_eq!((bed.server.connection_count(), bed.server.session_count()), (0, 0));
}

/// The rest of the budget of 4 KiB (see `server.rs`) is TCP's, the timer's and the allocator's.
#[test]
fn a_connection_at_rest_is_small() {
    let bed = bed();
    let exchange = Rc::new(Exchange::new(Waits::from(&bed.server.shared.config.timeouts), 0));
    let serving = size_of_val(&Rc::clone(&bed.server).serve(bed.transport()));
    let driving = connection::run(Rc::clone(&bed.server), exchange, bed.transport());
    let (driving, exchange) = (size_of_val(&driving), size_of::<Exchange>());
    assert!(serving <= 256 && exchange <= 192, "{serving} with {driving}, {exchange} bytes");
}
