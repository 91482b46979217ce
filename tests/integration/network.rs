//! A guest's own sockets against the programs of others: dnsmasq for DHCP and DNS, sockets of Python
//! and of this test.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, free_port, guest};
use crate::namespace::{Namespace, is_root};
use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    let with_peers = |name: &str, body: fn(Backend) -> Result<()>| {
        Case::new(format!("network::{name}"), body)
            .only_if(is_root(), "needs root to make a network namespace")
            .needs("ip")
            .needs("dnsmasq")
            .needs("python3")
    };
    vec![
        with_peers("tap-dhcp-dns-udp-tcp", tap_client)
            .only_if(std::fs::exists("/dev/net/tun").unwrap_or(false), "there is no /dev/net/tun"),
        with_peers("user-dns-udp-tcp", user_client),
        Case::new("network::user-published-tcp-and-udp", user_server),
    ]
}

const NAME: &str = "server.paravane.test";

/// A UDP echo, and a TCP server that answers what it got, reversed, when it has seen the end.
const SERVERS: &str = r#"
import socket, sys, threading
address = sys.argv[1]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((address, 7777))
tcp = socket.create_server((address, 7778))
def echo():
    while True:
        data, peer = udp.recvfrom(65535)
        udp.sendto(data, peer)
threading.Thread(target=echo, daemon=True).start()
print("ready", flush=True)
while True:
    connection, _ = tcp.accept()
    data = b""
    while part := connection.recv(65536):
        data += part
    connection.sendall(data[::-1])
    connection.close()
"#;

/// Programs that run beside a case, ended with it.
struct Peers(Vec<Child>);

impl Peers {
    /// DNS, and DHCP with the options given, and the servers, at one address of the namespace.
    fn start(namespace: &Namespace, address: &str, dhcp: &[&str]) -> Result<Self> {
        let name = format!("--address=/{NAME}/{address}");
        let listen = format!("--listen-address={address}");
        let mut dnsmasq = vec!["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv"];
        dnsmasq.extend(["--no-hosts", "--bind-interfaces", "--user=root", "--pid-file="]);
        dnsmasq.extend(["--address=/paravane.test/", &name, &listen]);
        dnsmasq.extend(dhcp);
        let mut peers = Self(Vec::new());
        peers.add(namespace.command(&dnsmasq).stderr(Stdio::null()))?;
        let servers = ["python3", "-c", SERVERS, address];
        peers.add(namespace.command(&servers).stdout(Stdio::piped()))?;
        let mut ready = [0; 5];
        let python = peers.0.last_mut().and_then(|child| child.stdout.as_mut());
        python.map(|out| out.read_exact(&mut ready)).transpose()?;
        ensure!(&ready == b"ready", "the servers do not start");
        Ok(peers)
    }

    fn add(&mut self, command: &mut Command) -> Result<()> {
        self.0.push(command.stdin(Stdio::null()).spawn()?);
        Ok(())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Already ended is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Runs the guest as a client in the namespace.
fn ask(namespace: &Namespace, backend: Backend, net: &str, server: &str) -> Result<String> {
    let arguments = ["--net", net, &guest("net-surface"), "--", "client", server, NAME];
    let ended = Domain::start_behind(&namespace.enter(), backend, &arguments)?.ended()?;
    ended.expect(0, &["passed"])?;
    Ok(ended.text)
}

/// On an interface without a given address the guest asks DHCP for everything.
fn tap_client(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.run(&["ip", "tuntap", "add", "dev", "web0", "mode", "tap", "vnet_hdr"])?;
    namespace.run(&["ip", "address", "add", "10.77.0.1/24", "dev", "web0"])?;
    namespace.run(&["ip", "link", "set", "web0", "up"])?;
    let lease_file = tempfile::NamedTempFile::new()?;
    let lease_file = format!("--dhcp-leasefile={}", lease_file.path().display());
    let dhcp = ["--dhcp-range=10.77.0.50,10.77.0.50", "--dhcp-authoritative", &lease_file];
    let _peers = Peers::start(&namespace, "10.77.0.1", &dhcp)?;
    let text = ask(&namespace, backend, "tap=web0", "10.77.0.1")?;
    ensure!(text.contains("address 10.77.0.50"), "{text}");
    Ok(())
}

/// Through the user network: the host's resolver, and sockets of the host towards its network.
fn user_client(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.run(&["ip", "address", "add", "10.88.0.1/32", "dev", "lo"])?;
    // `ip netns exec` shows this file as /etc/resolv.conf.
    let folder = std::path::Path::new("/etc/netns").join(namespace.name());
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("resolv.conf"), "nameserver 10.88.0.1\n")?;
    let _peers = Peers::start(&namespace, "10.88.0.1", &[])?;
    let asked = ask(&namespace, backend, "user", "10.88.0.1");
    std::fs::remove_dir_all(&folder)?;
    ensure!(asked?.contains("address 10.0.2.15"), "the address of the user network");
    Ok(())
}

/// Clients of the host reach the guest's sockets through published ports.
fn user_server(backend: Backend) -> Result<()> {
    let (tcp, udp) = (free_port(), free_port());
    let publish = [format!("127.0.0.1:{tcp}:7"), format!("127.0.0.1:{udp}:7/udp")];
    let arguments =
        ["--publish", &publish[0], "--publish", &publish[1], &guest("net-surface"), "--", "server"];
    let mut domain = Domain::start(backend, &arguments)?;
    domain.wait_for("ready")?;
    let mut stream = TcpStream::connect(("127.0.0.1", tcp))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"through a published port")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == "through a published port", "{answer:?}");

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    socket.connect(("127.0.0.1", udp))?;
    socket.send(b"a datagram")?;
    let mut buffer = [0; 100];
    let len = socket.recv(&mut buffer)?;
    ensure!(&buffer[..len] == b"a datagram", "{:?}", &buffer[..len]);
    domain.stop()?.expect(0, &["passed"])
}
