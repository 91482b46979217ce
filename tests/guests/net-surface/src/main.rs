//! Guest that talks to a network. `client ADDRESS NAME` asks a server for everything that the sockets
//! offer; `server` has the services of [`server`]; `connect ADDRESS:PORT COUNT` opens and closes
//! connections. `network.rs` and `robustness` of the integration tests are the other side.
mod server;

use paravane_abi::device::DeviceKind;
use paravane_abi::manifest::{Manifest, ManifestDevice};
use paravane_kernel::net::{NetError, TcpStream, UdpSocket, resolve, wait_configured};
use paravane_kernel::time::{sleep, timeout};
use paravane_kernel::{console, run};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

paravane_libc::image!(Manifest::new(
    "net-surface",
    8 << 20,
    &[ManifestDevice { kind: DeviceKind::Net as u32, required: 1 }]
));

/// Ports of the server that the client talks to.
const UDP_ECHO: u16 = 7777;
const TCP_REVERSE: u16 = 7778;
const CLOSED: u16 = 7779;

/// More than one buffer and one window of the connection.
const BULK_LEN: usize = 300_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["client", address, name] => run(client(address.parse().expect("an IPv4 address"), name)),
        ["server"] => run(server::serve()),
        ["connect", server, count] => run(connect(
            server.parse().expect("a socket address"),
            count.parse().expect("a number"),
        )),
        _ => panic!("no such part: {words:?}"),
    };
    result.expect("the network works");
    console::write(b"passed");
}

async fn client(server: Ipv4Addr, name: &str) -> Result<(), NetError> {
    println!("address {}", wait_configured().await?);
    assert_eq!(resolve(name).await?, [IpAddr::V4(server)]);
    assert!(resolve("no-such-name.paravane.test").await.is_err());
    ask_udp(SocketAddr::from((server, UDP_ECHO))).await?;
    ask_tcp(SocketAddr::from((server, TCP_REVERSE))).await?;
    let refused = TcpStream::connect(SocketAddr::from((server, CLOSED))).await;
    assert!(refused.is_err(), "nobody listens there");
    Ok(())
}

/// Datagrams may be lost: asks until one comes back.
async fn ask_udp(server: SocketAddr) -> Result<(), NetError> {
    let socket = UdpSocket::bind(0)?;
    for _ in 0..100 {
        socket.send_to(b"a datagram", server)?;
        if let Ok(answer) = timeout(Duration::from_millis(500), socket.recv_from()).await {
            let answer = answer?;
            assert_eq!((&answer.data[..], answer.remote), (&b"a datagram"[..], server));
            return Ok(());
        }
    }
    panic!("no datagram came back")
}

/// The server answers, reversed, when it has seen the end: both halves close by themselves.
async fn ask_tcp(server: SocketAddr) -> Result<(), NetError> {
    let sent: Vec<u8> = (0..=250).cycle().take(BULK_LEN).collect();
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&sent).await?;
    stream.close().await?;
    let mut answer = read_to_end(&mut stream).await?;
    answer.reverse();
    assert!(answer == sent, "{} bytes came back", answer.len());
    Ok(())
}

async fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>, NetError> {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part).await? {
            0 => return Ok(all),
            len => all.extend_from_slice(&part[..len]),
        }
    }
}

/// Asks a server `count` times for a byte, each time over a new connection that this end closes first.
/// There need not be a server at first.
async fn connect(server: SocketAddr, count: u32) -> Result<(), NetError> {
    println!("waiting for the server");
    while TcpStream::connect(server).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..count {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(b"?").await?;
        let mut answer = [0];
        assert_eq!(stream.read(&mut answer).await?, 1, "the server closed first");
        stream.close().await?;
        assert_eq!(stream.read(&mut answer).await?, 0, "more than was asked for");
    }
    Ok(())
}
