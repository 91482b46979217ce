//! UDP, DHCP, DNS and ICMP.
use crate::hostile::ipv4_frame;
use crate::link::Faults;
use crate::world::{
    CLIENT, CLIENT_MAC, SERVER, World, at, client_config, no_context, server_config,
};
use core::net::{IpAddr, Ipv4Addr};
use core::task::Poll;
use paravane_netstack::{Addressing, Config, Datagram, Duration, RxMeta, Stack, UdpError, UdpId};

const SECOND: Duration = Duration::from_secs(1);

fn received(stack: &mut Stack, id: UdpId) -> Option<Datagram> {
    match stack.udp_poll_recv(id, &mut no_context()) {
        Poll::Ready(datagram) => datagram.ok(),
        Poll::Pending => None,
    }
}

#[test]
fn datagrams_go_to_the_port_that_they_are_for() {
    let mut world = World::perfect();
    let [first, second] = [1000, 2000].map(|port| world.server.udp_bind(Some(port)).unwrap());
    let socket = world.client.udp_bind(None).unwrap();
    world.client.udp_send(socket, at(SERVER, 2000), b"two").unwrap();
    world.run_for(SECOND);
    assert_eq!(received(&mut world.server, first), None);
    let datagram = received(&mut world.server, second).unwrap();
    assert_eq!(datagram.data, b"two");
    assert_eq!(datagram.remote, at(CLIENT, world.client.udp_port(socket).unwrap()));
}

#[test]
fn limits_are_kept() {
    let mut world = World::perfect();
    let inbox = world.server.udp_bind(Some(1000)).unwrap();
    let socket = world.client.udp_bind(Some(1000)).unwrap();
    assert_eq!(world.client.udp_bind(Some(1000)), Err(UdpError::InUse));
    let too_long = world.client.udp_send(socket, at(SERVER, 1000), &[0; 1473]);
    assert_eq!(too_long, Err(UdpError::TooLong));
    for _ in 0..200 {
        world.client.udp_send(socket, at(SERVER, 1000), &[0; 1472]).unwrap();
        world.run_for(Duration::from_millis(1));
    }
    let kept = core::iter::from_fn(|| received(&mut world.server, inbox)).count();
    assert_eq!(kept, (128 << 10) / 1472);
    while world.client.udp_send(socket, at(SERVER, 1000), b"x").is_ok() {}
    assert_eq!(world.client.udp_send(socket, at(SERVER, 1000), b"x"), Err(UdpError::Busy));
}

/// A DHCP message that the fake server makes of the client's.
fn dhcp_reply(request: &[u8]) -> Vec<u8> {
    let kind = request[242]; // The first option is the message type.
    let mut reply = request[..240].to_vec();
    reply[0] = 2;
    reply[16..20].copy_from_slice(&CLIENT.octets());
    reply.extend_from_slice(&[53, 1, if kind == 1 { 2 } else { 5 }]);
    reply.extend_from_slice(&[&[54, 4][..], &SERVER.octets()].concat());
    reply.extend_from_slice(&[1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 14, 16]);
    reply.extend_from_slice(&[&[3, 4][..], &SERVER.octets(), &[6, 4], &SERVER.octets()].concat());
    reply.push(255);
    reply
}

/// A client without address, and a server of the test's that answers its broadcasts.
fn unconfigured() -> World {
    let client = Config { addressing: Addressing::Dhcp, ..client_config() };
    let server = Config { any_ip: true, ..server_config() };
    World::with(client, server, 1, Faults { lost: 200, ..Faults::default() })
}

#[test]
fn an_address_is_got_over_a_link_that_loses_frames() {
    let mut world = unconfigured();
    world.run_until(SECOND * 600, |world| {
        while let Some(request) = world.server.udp_recv_any() {
            assert_eq!(request.local, at(Ipv4Addr::BROADCAST, 67));
            let reply = dhcp_reply(&request.data);
            let to = at(Ipv4Addr::BROADCAST, 68);
            world.server.udp_send_any(at(SERVER, 67), to, &reply).unwrap();
        }
        world.client.poll_configured(&mut no_context()).is_ready()
    });
    let lease = world.client.lease().unwrap();
    assert_eq!((lease.address, lease.prefix_len), (CLIENT, 24));
    assert_eq!((lease.gateway, lease.dns), (Some(SERVER), Some(SERVER)));
}

/// An answer that names one address.
fn dns_reply(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2..4].copy_from_slice(&[0x81, 0x80]);
    reply[6..8].copy_from_slice(&[0, 1]);
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34]);
    reply
}

#[test]
fn a_name_is_resolved_by_the_server_of_the_lease() {
    let mut world = World::perfect();
    let server = world.server.udp_bind(Some(53)).unwrap();
    let mut query = Some(world.client.start_query("example.org").unwrap());
    let mut addresses = None;
    world.run_until(SECOND * 10, |world| {
        if let Some(question) = received(&mut world.server, server) {
            let reply = dns_reply(&question.data);
            world.server.udp_send(server, question.remote, &reply).unwrap();
        }
        if let Poll::Ready(result) = world.client.poll_query(&mut query, &mut no_context()) {
            addresses = Some(result.unwrap());
        }
        addresses.is_some()
    });
    assert_eq!(addresses.unwrap(), [IpAddr::from([93, 184, 216, 34])]);
    assert!(query.is_none());
}

#[test]
fn a_query_to_a_server_that_is_not_there_ends() {
    let lost = Faults { lost: 1000, ..Faults::default() };
    let mut world = World::with(client_config(), server_config(), 1, lost);
    let mut query = Some(world.client.start_query("example.org").unwrap());
    let mut result = None;
    world.run_until(SECOND * 10, |world| {
        match world.client.poll_query(&mut query, &mut no_context()) {
            Poll::Ready(end) => result = Some(end),
            Poll::Pending => {}
        }
        result.is_some()
    });
    assert!(result.unwrap().is_err());
}

#[test]
fn queries_that_nobody_waits_for_make_room() {
    let mut world = World::perfect();
    for _ in 0..100 {
        let query = world.client.start_query("example.org").unwrap();
        world.client.cancel_query(query);
    }
    assert!(world.client.start_query("not..a name").is_err());
}

#[test]
fn an_echo_request_is_answered() {
    let mut world = World::perfect();
    world.to_client.record = Some(Vec::new());
    let mut echo = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let sum: u32 = echo.chunks(2).map(|w: &[u8]| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    echo[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    world.to_server.inject(ipv4_frame(CLIENT, 1, &echo), RxMeta::default(), 0);
    world.run_for(SECOND);
    let replies = world.to_client.record.take().unwrap();
    let (reply, _) = &replies[0];
    assert_eq!(reply[..6], CLIENT_MAC);
    assert_eq!((reply[34], &reply[38..42]), (0, &[0x12, 0x34, 0, 1][..]));
}
