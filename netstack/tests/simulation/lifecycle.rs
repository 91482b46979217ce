//! Connections come, end and come again.
use crate::link::Faults;
use crate::world::{
    CLIENT, SERVER, World, accept, at, client_config, no_context, receive, send, server_config,
};
use core::net::Ipv4Addr;
use core::task::Poll;
use paravane_netstack::{Config, ConnectionId, Duration, Stack, TcpError};

const MINUTE: Duration = Duration::from_secs(60);

fn connect_error(world: &mut World, id: ConnectionId) -> TcpError {
    let mut error = None;
    world.run_until(MINUTE * 5, |world| {
        if let Poll::Ready(result) = world.client.poll_connected(id, &mut no_context()) {
            error = result.err();
        }
        error.is_some()
    });
    error.unwrap()
}

fn assert_empty(stack: &Stack) {
    assert_eq!((stack.connection_count(), stack.buffers_used()), (0, 0));
}

#[test]
fn a_closed_port_refuses() {
    let mut world = World::perfect();
    let id = world.client.connect(at(SERVER, 81), None).unwrap();
    assert_eq!(connect_error(&mut world, id), TcpError::Refused);
    world.client.release(id);
    world.run_for(MINUTE);
    assert_empty(&world.client);
}

#[test]
fn nobody_at_the_address_is_unreachable() {
    let mut world = World::perfect();
    let id = world.client.connect(at(Ipv4Addr::new(10, 0, 2, 77), 80), None).unwrap();
    assert_eq!(connect_error(&mut world, id), TcpError::Unreachable);
    world.client.release(id);
    world.run_for(MINUTE);
    assert_empty(&world.client);
}

#[test]
fn a_peer_that_never_answers_times_out() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, _) = world.connected(listener, 80); // The address is known from now on.
    let id = world.client.connect(at(SERVER, 81), None).unwrap();
    world.to_server = crate::link::Line::new(1, Faults { lost: 1000, ..Faults::default() });
    assert_eq!(connect_error(&mut world, id), TcpError::TimedOut);
    world.client.release(id);
    world.client.release(near);
    world.run_for(MINUTE * 5);
    assert_empty(&world.client);
}

#[test]
fn half_close_lets_the_other_half_go_on() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, far) = world.connected(listener, 80);
    world.client.shutdown(near);
    let mut request = Vec::new();
    world.run_until(MINUTE, |world| receive(&mut world.server, far, &mut request).unwrap());
    assert_eq!(send(&mut world.server, far, b"late"), Ok(4));
    world.server.shutdown(far);
    let mut answer = Vec::new();
    world.run_until(MINUTE, |world| receive(&mut world.client, near, &mut answer).unwrap());
    assert_eq!(answer, b"late");
    assert_eq!(send(&mut world.client, near, b"x"), Err(TcpError::NotConnected));
}

#[test]
fn an_abort_is_a_reset_for_the_peer() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, far) = world.connected(listener, 80);
    world.client.abort(near);
    world.client.release(near);
    world.run_for(MINUTE);
    assert_eq!(receive(&mut world.server, far, &mut Vec::new()), Err(TcpError::Reset));
    assert_eq!(send(&mut world.server, far, b"x"), Err(TcpError::Reset));
    world.server.release(far);
    world.run_for(MINUTE);
    assert_empty(&world.client);
    assert_empty(&world.server);
}

#[test]
fn letting_go_with_unread_data_is_a_reset() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, far) = world.connected(listener, 80);
    send(&mut world.client, near, b"never read").unwrap();
    world.run_for(MINUTE);
    world.server.release(far);
    world.run_for(MINUTE);
    assert_eq!(receive(&mut world.client, near, &mut Vec::new()), Err(TcpError::Reset));
}

#[test]
fn data_for_a_connection_that_was_let_go_of_is_a_reset() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, far) = world.connected(listener, 80);
    world.server.release(far);
    world.run_for(Duration::from_secs(1));
    send(&mut world.client, near, b"too late").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(send(&mut world.client, near, b"x"), Err(TcpError::Reset));
    assert_empty(&world.server);
}

#[test]
fn a_peer_that_vanishes_is_given_up_with_its_data() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, _far) = world.connected(listener, 80);
    world.to_server = crate::link::Line::new(1, Faults { lost: 1000, ..Faults::default() });
    send(&mut world.client, near, b"hello?").unwrap();
    world.run_for(MINUTE);
    assert_eq!(send(&mut world.client, near, b"x"), Ok(1));
    world.run_for(MINUTE * 6);
    assert_eq!(send(&mut world.client, near, b"x"), Err(TcpError::TimedOut));
}

#[test]
fn an_idle_connection_stays() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, far) = world.connected(listener, 80);
    world.run_for(MINUTE * 60 * 24);
    send(&mut world.client, near, b"good morning").unwrap();
    world.run_for(MINUTE);
    let mut heard = Vec::new();
    assert_eq!(receive(&mut world.server, far, &mut heard), Ok(false));
    assert_eq!(heard, b"good morning");
}

#[test]
fn a_closed_window_opens_again_when_its_data_is_read() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 1).unwrap();
    let (near, far) = world.connected(listener, 80);
    let data = vec![7; 500_000];
    let mut sent = 0;
    for _ in 0..10 {
        sent += send(&mut world.client, near, &data[sent..]).unwrap();
        world.run_for(MINUTE); // Nobody reads: the window closes, and is probed.
    }
    assert!(sent < data.len());
    let mut heard = Vec::new();
    world.run_until(MINUTE, |world| {
        sent += send(&mut world.client, near, &data[sent..]).unwrap();
        receive(&mut world.server, far, &mut heard).unwrap();
        heard.len() == data.len()
    });
    assert_eq!(heard, data);
}

/// Opens and closes; the side that closes first keeps a tombstone.
fn round(world: &mut World, listener: paravane_netstack::ListenerId, client_first: bool) {
    let (near, far) = world.connected(listener, 80);
    let close = |world: &mut World, client: bool| {
        if client {
            world.client.release(near)
        } else {
            world.server.release(far)
        }
        world.run_for(Duration::from_millis(1));
    };
    close(world, client_first);
    close(world, !client_first);
}

#[test]
fn churn_leaves_nothing_but_tombstones() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 16).unwrap();
    for i in 0..500 {
        round(&mut world, listener, i % 2 == 0);
        assert_empty(&world.client);
        assert_empty(&world.server);
    }
}

#[test]
fn a_port_in_time_wait_takes_the_same_peer_again() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 16).unwrap();
    for _ in 0..100 {
        // The server closes first, so it remembers the flow that comes again at once.
        let near = world.client.connect(at(SERVER, 80), Some(at(CLIENT, 50_000))).unwrap();
        let mut far = None;
        world.run_until(MINUTE, |world| {
            far = far.or(accept(&mut world.server, listener));
            far.is_some()
        });
        world.server.release(far.unwrap());
        world.run_for(Duration::from_millis(1));
        world.client.release(near);
        world.run_for(Duration::from_millis(1));
        assert_empty(&world.client);
        assert_empty(&world.server);
    }
}

#[test]
fn a_lost_last_acknowledgement_is_repeated_by_the_tombstone() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 16).unwrap();
    let (near, far) = world.connected(listener, 80);
    world.client.release(near);
    world.run_for(Duration::from_millis(10));
    // The server's FIN arrives, but the client's answer does not.
    let good = core::mem::replace(
        &mut world.to_server,
        crate::link::Line::new(1, Faults { lost: 1000, ..Faults::default() }),
    );
    world.server.release(far);
    world.run_for(Duration::from_millis(10));
    assert_empty(&world.client);
    assert_eq!(world.server.connection_count(), 1);
    world.to_server = good;
    world.run_for(Duration::from_secs(5));
    assert_empty(&world.server);
}

#[test]
fn too_many_connections_are_refused_and_counted() {
    let server = Config { connections_max: 3, ..server_config() };
    let mut world = World::with(client_config(), server, 1, Faults::default());
    let listener = world.server.listen(80, 16).unwrap();
    let kept: Vec<_> = (0..3).map(|_| world.connected(listener, 80)).collect();
    let id = world.client.connect(at(SERVER, 80), None).unwrap();
    assert_eq!(connect_error(&mut world, id), TcpError::Refused);
    assert_eq!(world.server.counters().connections_refused, 1);
    world.server.abort(kept[0].1);
    world.server.release(kept[0].1);
    world.connected(listener, 80);
}

#[test]
fn closing_a_listener_resets_what_nobody_accepted() {
    let mut world = World::perfect();
    let listener = world.server.listen(80, 16).unwrap();
    let near = world.client.connect(at(SERVER, 80), None).unwrap();
    world.run_for(Duration::from_secs(1));
    world.server.close_listener(listener);
    world.run_for(Duration::from_secs(1));
    assert_eq!(receive(&mut world.client, near, &mut Vec::new()), Err(TcpError::Reset));
    assert_empty(&world.server);
    let id = world.client.connect(at(SERVER, 80), None).unwrap();
    assert_eq!(connect_error(&mut world, id), TcpError::Refused);
}

#[test]
fn the_same_flow_cannot_be_opened_twice() {
    let mut world = World::perfect();
    let local = Some(at(CLIENT, 50_000));
    world.client.connect(at(SERVER, 80), local).unwrap();
    assert_eq!(world.client.connect(at(SERVER, 80), local), Err(TcpError::InUse));
}

#[test]
fn both_ends_may_open_at_the_same_time() {
    let mut world = World::perfect();
    let (one, other) = (at(CLIENT, 5000), at(SERVER, 6000));
    // Both know where the other is, so that the SYNs cross.
    let listener = world.server.listen(80, 1).unwrap();
    world.connected(listener, 80);
    let near = world.client.connect(other, Some(one)).unwrap();
    let far = world.server.connect(one, Some(other)).unwrap();
    world.run_for(Duration::from_millis(10));
    for (stack, id) in [(&mut world.client, near), (&mut world.server, far)] {
        assert_eq!(stack.poll_connected(id, &mut no_context()), Poll::Ready(Ok(())));
        send(stack, id, b"here").unwrap();
    }
    world.run_for(Duration::from_millis(10));
    for (stack, id) in [(&mut world.client, near), (&mut world.server, far)] {
        let mut heard = Vec::new();
        receive(stack, id, &mut heard).unwrap();
        assert_eq!(heard, b"here");
    }
}
