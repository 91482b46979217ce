//! Any-IP mode: the server's stack plays the internet for the client.
use crate::link::Faults;
use crate::world::{
    CLIENT, SERVER, World, at, client_config, no_context, receive, send, server_config,
};
use core::net::Ipv4Addr;
use core::task::Poll;
use paravane_netstack::{Config, ConnectionId, Duration, TcpError};

const FAR_AWAY: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
const SECOND: Duration = Duration::from_secs(1);

fn world() -> World {
    let gateway = Config { any_ip: true, ..server_config() };
    World::with(client_config(), gateway, 1, Faults::default())
}

fn is_connected(world: &mut World, id: ConnectionId) -> Poll<Result<(), TcpError>> {
    world.client.poll_connected(id, &mut no_context())
}

#[test]
fn a_connection_to_anywhere_is_offered_before_it_is_answered() {
    let mut world = world();
    let near = world.client.connect(at(FAR_AWAY, 443), None).unwrap();
    world.run_for(SECOND * 5);
    assert!(is_connected(&mut world, near).is_pending());
    let (pending, flow) = world.server.accept_any().unwrap();
    assert_eq!(flow.local_address(), at(FAR_AWAY, 443));
    assert_eq!(flow.remote_address().ip(), CLIENT);
    assert!(world.server.accept_any().is_none()); // Repeated SYNs are not offered again.
    let far = world.server.accept_pending(pending, world.now).unwrap();
    world.run_for(SECOND * 5);
    assert_eq!(is_connected(&mut world, near), Poll::Ready(Ok(())));
    send(&mut world.client, near, b"hello").unwrap();
    world.run_for(SECOND);
    let mut heard = Vec::new();
    receive(&mut world.server, far, &mut heard).unwrap();
    assert_eq!(heard, b"hello");
}

#[test]
fn a_refused_offer_is_a_refused_connection() {
    let mut world = world();
    let near = world.client.connect(at(FAR_AWAY, 443), None).unwrap();
    world.run_for(SECOND);
    let (pending, _) = world.server.accept_any().unwrap();
    world.server.refuse_pending(pending);
    world.run_for(SECOND);
    assert_eq!(is_connected(&mut world, near), Poll::Ready(Err(TcpError::Refused)));
    assert_eq!(world.server.connection_count(), 0);
}

#[test]
fn a_published_port_connects_to_the_guest_from_any_address() {
    let mut world = world();
    let listener = world.client.listen(80, 4).unwrap();
    let far = world.server.connect(at(CLIENT, 80), Some(at(FAR_AWAY, 1234))).unwrap();
    let mut near = None;
    world.run_until(SECOND * 5, |world| {
        near = near.or(crate::world::accept(&mut world.client, listener));
        near.is_some()
    });
    let flow = world.client.flow(near.unwrap()).unwrap();
    assert_eq!(flow.remote_address(), at(FAR_AWAY, 1234));
    send(&mut world.server, far, b"GET /").unwrap();
    world.run_for(SECOND);
    let mut heard = Vec::new();
    receive(&mut world.client, near.unwrap(), &mut heard).unwrap();
    assert_eq!(heard, b"GET /");
}

#[test]
fn datagrams_to_anywhere_come_with_both_addresses_and_are_answered_from_there() {
    let mut world = world();
    let socket = world.client.udp_bind(None).unwrap();
    world.client.udp_send(socket, at(FAR_AWAY, 123), b"what time?").unwrap();
    world.run_for(SECOND);
    let datagram = world.server.udp_recv_any().unwrap();
    assert_eq!((datagram.local, &datagram.data[..]), (at(FAR_AWAY, 123), &b"what time?"[..]));
    world.server.udp_send_any(datagram.local, datagram.remote, b"late").unwrap();
    world.run_for(SECOND);
    let Poll::Ready(Ok(answer)) = world.client.udp_poll_recv(socket, &mut no_context()) else {
        panic!("no answer")
    };
    assert_eq!((answer.remote, &answer.data[..]), (at(FAR_AWAY, 123), &b"late"[..]));
}

#[test]
fn the_gateway_itself_can_be_listened_at() {
    let mut world = world();
    let listener = world.server.listen(8080, 4).unwrap();
    world.connected(listener, 8080);
    assert!(world.server.accept_any().is_none());
    let refused = world.client.connect(at(SERVER, 8081), None).unwrap();
    world.run_for(SECOND);
    assert_eq!(is_connected(&mut world, refused), Poll::Ready(Err(TcpError::Refused)));
}

#[test]
fn offers_are_bounded() {
    let mut world = world();
    for _ in 0..1000 {
        world.client.connect(at(FAR_AWAY, 443), None).unwrap();
    }
    world.run_for(SECOND);
    let offers = core::iter::from_fn(|| world.server.accept_any()).count();
    assert!(offers < 1000);
    assert_eq!(world.server.buffers_used(), 0);
}
