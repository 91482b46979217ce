//! IPv6 on a TAP interface, with Linux as the neighbour and the router.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::Domain;
use crate::namespace::{Namespace, is_root, run};
use crate::web::{pattern, small_site};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use tempfile::TempDir;

const GUEST: &str = "fd77::2";

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| {
        Case::new(format!("tap6::{name}"), body)
            .only_if(is_root(), "needs root to make a network namespace")
            .only_if(std::fs::exists("/dev/net/tun").unwrap_or(false), "there is no /dev/net/tun")
            .only_if(std::fs::exists("/proc/net/if_inet6").unwrap_or(false), "there is no IPv6")
            .needs("ip")
            .needs("curl")
    };
    vec![
        case("creates-interface", creates_interface).not_on_shim("the interface is QEMU's to open"),
        case("both-families", both_families).needs("ping"),
        case("bulk", bulk),
        case("router", router).needs("python3"),
        case("conflict", conflict),
        case("none", none),
        case("path-mtu", path_mtu),
    ]
}

/// The small site behind an interface of its own in a namespace.
struct Served {
    domain: Domain,
    _folder: TempDir,
}

/// Serves behind the interface `net` with these flags.
fn serve(namespace: &Namespace, backend: Backend, net: &str, flags: &[&str]) -> Result<Served> {
    let folder = tempfile::tempdir()?;
    small_site(folder.path())?;
    let site = folder.path().display().to_string();
    let words = [&["web", "--site", &site, "--net", net], flags].concat();
    let domain = Domain::start_behind(&namespace.enter(), backend, &words)?;
    Ok(Served { domain, _folder: folder })
}

/// A namespace with the interface `web0`, which has these addresses.
fn with_interface(addresses: &[&str]) -> Result<Namespace> {
    let namespace = Namespace::new()?;
    namespace.run(&["ip", "tuntap", "add", "dev", "web0", "mode", "tap", "vnet_hdr"])?;
    for address in addresses {
        namespace.run(&["ip", "address", "add", address, "dev", "web0", "nodad"])?;
    }
    namespace.run(&["ip", "link", "set", "web0", "up"])?;
    Ok(namespace)
}

fn curl(namespace: &Namespace, address: &str, path: &str) -> Result<Vec<u8>> {
    let url = format!("http://[{address}]{path}");
    Ok(namespace.run(&["curl", "-6", "-sS", "--fail", "--max-time", "60", &url])?.stdout)
}

/// The VMM makes the interface and gives its host side an address of the guest's network.
fn creates_interface(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut served = serve(&namespace, backend, "tap", &["--ip6", "fd77::2/64"])?;
    served.domain.wait_for("serving")?;
    ensure!(curl(&namespace, GUEST, "/a.txt")? == b"0123456789", "the file");
    let addresses = namespace.run(&["ip", "-6", "-o", "address"])?.stdout;
    ensure!(String::from_utf8_lossy(&addresses).contains("fd77::1/64"), "the host's side");
    served.domain.stop()?.expect(0, &[])
}

fn both_families(backend: Backend) -> Result<()> {
    let namespace = with_interface(&["fd77::1/64", "10.77.0.1/24"])?;
    let flags = ["--ip6", "fd77::2/64", "--gateway6", "fd77::1", "--ip", "10.77.0.2/24"];
    let flags = [&flags[..], &["--gateway", "10.77.0.1"]].concat();
    let mut served = serve(&namespace, backend, "tap=web0", &flags)?;
    served.domain.wait_for("serving")?;
    ensure!(curl(&namespace, GUEST, "/a.txt")? == b"0123456789", "the file");
    for family in [["-6", GUEST], ["-4", "10.77.0.2"]] {
        let ping = ["ping", family[0], "-i", "0.2", "-W", "10", family[1]];
        namespace.run(&[&ping[..], &["-c", "3"]].concat())?;
        namespace.run(&[&ping[..], &["-c", "2", "-s", "1400"]].concat())?;
    }
    // All on the link, of which there are two: the guest by the address that it made itself.
    let ping = ["ping", "-6", "-i", "0.2", "-W", "10", "-c", "2", "ff02::1%web0"];
    let answers = String::from_utf8(namespace.run(&ping)?.stdout)?;
    ensure!(answers.contains("duplicates"), "more than one machine answers: {answers}");
    served.domain.stop()?.expect(0, &[])
}

/// Three megabytes arrive, in packets that are far larger than the interface's MTU.
fn bulk(backend: Backend) -> Result<()> {
    let namespace = with_interface(&["fd77::1/64"])?;
    let flags = ["--ip6", "fd77::2/64", "--ip", "10.77.0.2/24", "--gateway", "10.77.0.1"];
    let mut served = serve(&namespace, backend, "tap=web0", &flags)?;
    served.domain.wait_for("serving")?;
    let expected = (0..3_u32 << 20).map(pattern);
    ensure!(curl(&namespace, GUEST, "/big.bin")?.into_iter().eq(expected), "three megabytes");
    let packets = namespace.run(&["cat", "/sys/class/net/web0/statistics/rx_packets"])?.stdout;
    let packets: u32 = String::from_utf8(packets)?.trim().parse()?;
    ensure!(packets < 1000, "the guest sent {packets} packets");
    Ok(())
}

/// Sends an advertisement of the prefix fd77:1::/64 from an interface's link-local address, which may not
/// be ready yet, until somebody ends it.
const ROUTER: &str = "
import socket, struct, sys, time
index = socket.if_nametoindex(sys.argv[1])
prefix = socket.inet_pton(socket.AF_INET6, 'fd77:1::')
message = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
message += struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 3600, 1800, 0) + prefix
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
for _ in range(600):
    try:
        raw.sendto(message, ('ff02::1', 0, 0, index))
    except OSError:
        pass
    time.sleep(0.2)
";

/// A guest without addresses of the operator's gets one from a router.
fn router(backend: Backend) -> Result<()> {
    let namespace = with_interface(&["fd77:1::1/64"])?;
    let mut served = serve(&namespace, backend, "tap=web0", &[])?;
    let mut router = namespace.command(&["python3", "-c", ROUTER, "web0"]).spawn()?;
    let result = (|| {
        served.domain.wait_for("http://[fd77:1::")?;
        let text = served.domain.text();
        let (_, rest) = text.split_once("http://[").context("the address")?;
        let (address, _) = rest.split_once(']').context("the address")?;
        ensure!(curl(&namespace, address, "/a.txt")? == b"0123456789", "the file");
        Ok(())
    })();
    router.kill()?;
    router.wait()?;
    result
}

/// The host has the guest's address already.
fn conflict(backend: Backend) -> Result<()> {
    let namespace = with_interface(&["fd77::1/64", "fd77::2/64", "10.77.0.1/24"])?;
    let flags = ["--ip6", "fd77::2/64", "--ip", "10.77.0.2/24", "--gateway", "10.77.0.1"];
    let mut served = serve(&namespace, backend, "tap=web0", &flags)?;
    served.domain.wait_for("another machine has the address fd77::2")?;
    // The other family goes on.
    let url = "http://10.77.0.2/a.txt";
    let found = namespace.run(&["curl", "-sS", "--fail", "--max-time", "60", url])?.stdout;
    ensure!(found == b"0123456789", "the file");
    served.domain.stop()?.expect(0, &[])
}

/// Without IPv6, nobody answers.
fn none(backend: Backend) -> Result<()> {
    let namespace = with_interface(&["fd77::1/64", "10.77.0.1/24"])?;
    let flags = ["--ip6", "none", "--ip", "10.77.0.2/24", "--gateway", "10.77.0.1"];
    let mut served = serve(&namespace, backend, "tap=web0", &flags)?;
    served.domain.wait_for("serving")?;
    let words = ["curl", "-sS", "--fail", "--max-time", "60", "http://10.77.0.2/a.txt"];
    ensure!(namespace.run(&words)?.stdout == b"0123456789", "the file");
    let neighbours = namespace.command(&["ping", "-6", "-c", "2", "-W", "1", "ff02::1%web0"]);
    let answers = { neighbours }.output()?.stdout;
    let answers = String::from_utf8_lossy(&answers).into_owned();
    ensure!(!answers.contains("duplicates"), "nobody but the host answers: {answers}");
    served.domain.stop()?.expect(0, &[])
}

/// A client behind a link with a smaller MTU, which its own segment size does not tell of: the router
/// between says what fits.
fn path_mtu(backend: Backend) -> Result<()> {
    let namespace = with_interface(&["fd77::1/64"])?;
    let client = Namespace::new()?;
    let link = ["ip", "link", "add", "far", "mtu", "1400", "type", "veth", "peer", "name", "near"];
    namespace.run(&[&link[..], &["mtu", "1400", "netns", client.name()]].concat())?;
    for (side, device, address) in
        [(&namespace, "far", "fd78::1/64"), (&client, "near", "fd78::2/64")]
    {
        side.run(&["ip", "address", "add", address, "dev", device, "nodad"])?;
        side.run(&["ip", "link", "set", device, "up"])?;
    }
    let route = ["ip", "route", "add", "fd77::/64", "via", "fd78::1", "advmss", "1440"];
    client.run(&route)?;
    namespace.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"])?;
    let flags = ["--ip6", "fd77::2/64", "--gateway6", "fd77::1", "--ip", "10.77.0.2/24"];
    let flags = [&flags[..], &["--gateway", "10.77.0.1"]].concat();
    let mut served = serve(&namespace, backend, "tap=web0", &flags)?;
    served.domain.wait_for("serving")?;
    let expected = (0..3_u32 << 20).map(pattern);
    ensure!(curl(&client, GUEST, "/big.bin")?.into_iter().eq(expected), "three megabytes");
    // The router had to say so.
    let told = run(Command::new("ip").args(["netns", "exec", namespace.name()]).args([
        "grep",
        "Icmp6OutPktTooBigs",
        "/proc/net/snmp6",
    ]))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let count = told.split_whitespace().nth(1).and_then(|n| n.parse::<u32>().ok());
    ensure!(count.is_some_and(|count| count > 0), "{told}");
    Ok(())
}
