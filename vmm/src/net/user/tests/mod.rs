//! The network with a guest on one side and real sockets on the other.
mod guest;
mod hostile;

use super::{Addresses, Protocol, Publish, UserNetwork, UserNetworkError};
use guest::{Guest, context};
use paravane_netstack::{Addressing, TcpError};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, IpProtocol,
    Ipv4Packet, Ipv4Repr,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

const GUEST_PORT: u16 = 80;

/// A free port of the host's that leads to the guest.
fn published(protocol: Protocol) -> Publish {
    let host = match protocol {
        Protocol::Tcp => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        Protocol::Udp => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
    };
    Publish { host, guest_port: GUEST_PORT, protocol }
}

/// An address of this host's that is not a loopback address.
fn outside_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok().filter(|address| !address.ip().is_loopback());
    if address.is_none() {
        eprintln!("skipped: this host has no address but loopback ones");
    }
    Some(SocketAddr::new(address?.ip(), 0))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251).to_le_bytes()[0]).collect()
}

#[test]
fn bulk_passes_both_ways_and_half_closed_ends_are_kept() {
    let longest = bulk(true);
    assert!(longest > 10_000, "{longest}");
}

/// A guest without offloads is never sent what it could not take.
#[test]
fn bulk_passes_in_frames_of_the_links_size_without_offloads() {
    assert_eq!(bulk(false), 14 + 1500);
}

/// Passes bulk data both ways; bytes of the longest frame that the guest got.
fn bulk(has_offloads: bool) -> usize {
    let port = published(Protocol::Tcp);
    let mut guest = Guest::with(&[port], Guest::usual_addressing(), has_offloads);
    let listener = guest.stack.listen(GUEST_PORT, 8).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(port.host).unwrap();
        stream.write_all(&pattern(3_000_000)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let id = guest.accept(listener);
    assert!(guest.read_all(id).unwrap() == pattern(3_000_000));
    guest.write_all(id, &pattern(5_000_001));
    guest.until(|_| client.is_finished().then_some(()));
    assert!(client.join().unwrap() == pattern(5_000_001));
    guest.longest
}

#[test]
fn a_thousand_connections_at_a_time() {
    const COUNT: usize = 1000;
    let port = published(Protocol::Tcp);
    let mut guest = Guest::new(&[port]);
    let listener = guest.stack.listen(GUEST_PORT, 4096).unwrap();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut streams: Vec<_> =
                (0..COUNT).map(|_| TcpStream::connect(port.host).unwrap()).collect();
            for (i, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&i.to_le_bytes()).unwrap();
            }
            for (i, stream) in streams.iter_mut().enumerate() {
                let mut answer = [0; 8];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, i.to_le_bytes());
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        guest.echo(listener, || done.load(Ordering::Relaxed) == COUNT);
    });
}

#[test]
fn a_port_nobody_listens_on_resets_the_client() {
    let port = published(Protocol::Tcp);
    let mut guest = Guest::new(&[port]);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(port.host).unwrap();
        stream.read(&mut [0; 1]).unwrap_err().kind()
    });
    guest.until(|_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_the_guest_reaches_the_client() {
    let port = published(Protocol::Tcp);
    let mut guest = Guest::new(&[port]);
    let listener = guest.stack.listen(GUEST_PORT, 8).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(port.host).unwrap();
        stream.read(&mut [0; 1]).unwrap_err().kind()
    });
    let id = guest.accept(listener);
    guest.stack.abort(id);
    guest.until(|_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_the_client_reaches_the_guest() {
    let port = published(Protocol::Tcp);
    let mut guest = Guest::new(&[port]);
    let listener = guest.stack.listen(GUEST_PORT, 8).unwrap();
    let client = TcpStream::connect(port.host).unwrap();
    let id = guest.accept(listener);
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(guest.read_all(id), Err(TcpError::Reset));
}

#[test]
fn the_guest_sees_who_its_clients_are() {
    let Some(outside) = outside_address() else { return };
    let free = TcpListener::bind(outside).unwrap().local_addr().unwrap();
    let port = Publish { host: free, guest_port: GUEST_PORT, protocol: Protocol::Tcp };
    let mut guest = Guest::new(&[port]);
    let listener = guest.stack.listen(GUEST_PORT, 8).unwrap();
    let _client = TcpStream::connect(port.host).unwrap();
    let id = guest.accept(listener);
    assert_eq!(guest.stack.flow(id).unwrap().remote_address().ip(), outside.ip());
}

/// One after the other, faster than the guest forgets ended connections: none fails or waits.
#[test]
fn many_short_connections_in_a_row() {
    const COUNT: usize = 3000;
    let port = published(Protocol::Tcp);
    let mut guest = Guest::new(&[port]);
    let listener = guest.stack.listen(GUEST_PORT, 64).unwrap();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while done.fetch_add(1, Ordering::Relaxed) < COUNT {
                let mut stream = TcpStream::connect(port.host).unwrap();
                stream.write_all(b"x").unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert_eq!(answer, b"x");
            }
        });
        guest.answer_and_close(listener, || done.load(Ordering::Relaxed) > COUNT);
    });
}

#[test]
fn clients_see_the_end_of_the_guest() {
    let port = published(Protocol::Tcp);
    let mut guest = Guest::new(&[port]);
    let listener = guest.stack.listen(GUEST_PORT, 8).unwrap();
    let mut client = TcpStream::connect(port.host).unwrap();
    guest.accept(listener);
    drop(guest);
    // Closed or reset: either is an end.
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn a_busy_port_is_refused_before_the_start() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = busy.local_addr().unwrap();
    let port = Publish { host, guest_port: GUEST_PORT, protocol: Protocol::Tcp };
    let error = UserNetwork::new(Addresses::default(), &[port]).unwrap_err();
    assert!(matches!(error, UserNetworkError::Publish(_)));
    assert_eq!(error.to_string(), format!("cannot publish {host}: address already in use"));
}

#[test]
fn the_guest_connects_out_and_is_refused_where_the_peer_refuses() {
    let Some(outside) = outside_address() else { return };
    let server = TcpListener::bind(outside).unwrap();
    let address = server.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        stream.write_all(&text).unwrap();
    });
    let mut guest = Guest::new(&[]);
    let id = guest.connect(address).unwrap();
    guest.write_all(id, b"hello");
    assert_eq!(guest.read_all(id).unwrap(), b"hello");
    peer.join().unwrap(); // Closes the port.
    assert_eq!(guest.connect(address), Err(TcpError::Refused));
}

#[test]
fn the_guest_does_not_reach_the_hosts_loopback() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut guest = Guest::new(&[]);
    for address in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.2.2"] {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        if let Ok(id) = guest.stack.connect(to, None) {
            let result =
                guest.until(|guest| match guest.stack.poll_connected(id, &mut context()) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                });
            assert!(result.is_err(), "{address}");
        }
    }
    assert_eq!(server.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn datagrams_pass_out_and_their_answers_in() {
    let Some(outside) = outside_address() else { return };
    let server = UdpSocket::bind(outside).unwrap();
    let address = server.local_addr().unwrap();
    let mut guest = Guest::new(&[]);
    let socket = guest.stack.udp_bind(None).unwrap();
    guest.stack.udp_send(socket, address, b"question").unwrap();
    let peer = thread::spawn(move || {
        let mut buffer = [0; 64];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"question");
        server.send_to(b"answer", from).unwrap();
    });
    let answer = guest.until(|guest| match guest.stack.udp_poll_recv(socket, &mut context()) {
        Poll::Ready(datagram) => Some(datagram.unwrap()),
        Poll::Pending => None,
    });
    assert_eq!((answer.remote, &answer.data[..]), (address, &b"answer"[..]));
    peer.join().unwrap();
}

#[test]
fn datagrams_of_clients_reach_a_published_port_and_are_answered() {
    let port = published(Protocol::Udp);
    let mut guest = Guest::new(&[port]);
    let socket = guest.stack.udp_bind(Some(GUEST_PORT)).unwrap();
    let clients = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    for (i, client) in clients.iter().enumerate() {
        client.send_to(&[u8::try_from(i).unwrap()], port.host).unwrap();
    }
    for _ in 0..clients.len() {
        let question =
            guest.until(|guest| match guest.stack.udp_poll_recv(socket, &mut context()) {
                Poll::Ready(datagram) => Some(datagram.unwrap()),
                Poll::Pending => None,
            });
        guest.stack.udp_send(socket, question.remote, &[question.data[0] + 100]).unwrap();
        guest.turn();
    }
    for (i, client) in clients.iter().enumerate() {
        let mut answer = [0; 8];
        let (len, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&[u8::try_from(i + 100).unwrap()][..], port.host));
    }
}

#[test]
fn a_guest_that_asks_gets_its_address() {
    let mut guest = Guest::with(&[], Addressing::Dhcp, true);
    let lease = guest.until(|guest| guest.stack.lease());
    let Addresses { guest: address, gateway, prefix_len } = Addresses::default();
    assert_eq!((lease.address, lease.prefix_len), (address, prefix_len));
    assert_eq!((lease.gateway, lease.dns), (Some(gateway), Some(gateway)));
}

#[test]
fn the_gateway_answers_echo_requests() {
    let mut guest = Guest::new(&[]);
    guest.send(&echo_request());
    let is_reply = |frame: &[u8]| {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
        match Icmpv4Repr::parse(&icmp, &smoltcp::phy::ChecksumCapabilities::default()) {
            Ok(Icmpv4Repr::EchoReply { ident: 7, seq_no: 9, data: b"ping" }) => Some(()),
            _ => None,
        }
    };
    guest.until(|guest| guest.frame().and_then(|frame| is_reply(&frame)));
}

fn echo_request() -> Vec<u8> {
    let Addresses { guest, gateway, .. } = Addresses::default();
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    let icmp = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data: b"ping" };
    let ip = Ipv4Repr {
        src_addr: guest,
        dst_addr: gateway,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + icmp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 0x15]));
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(packet.payload_mut()), &checksums);
    bytes
}
