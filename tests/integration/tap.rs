//! The TAP network, in a network namespace of the case's own.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, children_of, paravane, release};
use crate::load::raise_descriptor_limit;
use crate::namespace::{Namespace, is_root, run};
use crate::web::small_site;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const GUEST: &str = "10.77.0.2";

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| {
        Case::new(format!("tap::{name}"), body)
            .only_if(is_root(), "needs root to make a network namespace")
            .only_if(std::fs::exists("/dev/net/tun").unwrap_or(false), "there is no /dev/net/tun")
            .needs("ip")
            .needs("curl")
    };
    vec![
        case("creates-interface", creates_interface).not_on_shim(QEMUS),
        case("existing-interface-without-privilege", existing_interface)
            .needs("setpriv")
            .not_on_shim(QEMUS),
        case("missing-privilege", missing_privilege).needs("setpriv").not_on_shim(QEMUS),
        case("ping", ping).needs("ping"),
        case("bulk", bulk),
        case("idle-connections-cost-little", idle_connections)
            .only_if(
                raise_descriptor_limit(IDLE_CONNECTIONS + 500),
                "the limit on open files cannot be raised",
            )
            .not_on_shim("QEMU has memory of its own for a machine"),
    ]
}

const QEMUS: &str = "the interface is QEMU's to open";

struct Served {
    domain: Domain,
    _folder: TempDir,
}

/// Starts the small site behind a TAP; `before` goes in front of the command (setpriv ...).
fn serve(namespace: &Namespace, backend: Backend, before: &[&str], net: &str) -> Result<Served> {
    let folder = tempfile::tempdir()?;
    let (bin, site) = (folder.path().join("bin"), folder.path().join("site"));
    // Whoever `before` makes of us may not read where the build lies: a copy for everyone.
    std::fs::create_dir_all(bin.join("images"))?;
    std::fs::create_dir(&site)?;
    std::fs::copy(paravane(), bin.join("paravane"))?;
    std::fs::copy(release().join("images/web"), bin.join("images/web"))?;
    small_site(&site)?;
    if backend == Backend::Shim {
        return serve_on_machine(namespace, &site, folder);
    }
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()))?;
    let program = bin.join("paravane").display().to_string();
    let site = site.display().to_string();
    let mut words: Vec<&str> = before.to_vec();
    words.extend([&program, "run", "--backend", backend.name(), "web", "--site", &site]);
    words.extend(["--net", net, "--ip", "10.77.0.2/24", "--gateway", "10.77.0.1"]);
    let domain = Domain::spawn(namespace.command(&words))?;
    Ok(Served { domain, _folder: folder })
}

/// The same for a machine, on an interface that is there.
fn serve_on_machine(namespace: &Namespace, site: &Path, folder: TempDir) -> Result<Served> {
    add_interface(namespace)?;
    let site = site.display().to_string();
    let arguments = ["web", "--site", &site, "--net", "tap=web0", "--ip", "10.77.0.2/24"];
    let arguments = [&arguments[..], &["--gateway", "10.77.0.1"]].concat();
    let domain = Domain::start_behind(&namespace.enter(), Backend::Shim, &arguments)?;
    Ok(Served { domain, _folder: folder })
}

fn add_interface(namespace: &Namespace) -> Result<()> {
    let add = ["ip", "tuntap", "add", "dev", "web0", "mode", "tap", "user", "65534", "vnet_hdr"];
    namespace.run(&add)?;
    namespace.run(&["ip", "address", "add", "10.77.0.1/24", "dev", "web0"])?;
    namespace.run(&["ip", "link", "set", "web0", "up"])?;
    Ok(())
}

fn curl(namespace: &Namespace, path: &str) -> Result<Vec<u8>> {
    let url = format!("http://{GUEST}{path}");
    Ok(namespace.run(&["curl", "-sS", "--fail", "--max-time", "60", &url])?.stdout)
}

/// The VMM makes the interface and gives its host side the gateway's address.
fn creates_interface(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut served = serve(&namespace, backend, &[], "tap")?;
    served.domain.wait_for("serving")?;
    ensure!(curl(&namespace, "/a.txt")? == b"0123456789", "the file");
    served.domain.stop()?.expect(0, &[])?;
    let links = namespace.run(&["ip", "-o", "link"])?;
    let links = String::from_utf8_lossy(&links.stdout).lines().count();
    ensure!(links == 1, "only the loopback interface is left");
    Ok(())
}

const UNPRIVILEGED: [&str; 4] =
    ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all"];

/// Without privilege, an interface that root made for the user is taken.
fn existing_interface(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    add_interface(&namespace)?;
    let mut served = serve(&namespace, backend, &UNPRIVILEGED, "tap=web0")?;
    served.domain.wait_for("serving")?;
    ensure!(curl(&namespace, "/a.txt")? == b"0123456789", "the file");
    served.domain.stop()?.expect(0, &[])
}

fn missing_privilege(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    let served = serve(&namespace, backend, &UNPRIVILEGED, "tap")?;
    served.domain.ended()?.expect(102, &["CAP_NET_ADMIN"])
}

fn ping(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut served = serve(&namespace, backend, &[], "tap")?;
    served.domain.wait_for("serving")?;
    namespace.run(&["ping", "-c", "3", "-i", "0.2", "-W", "10", GUEST])?;
    namespace.run(&["ping", "-c", "2", "-i", "0.2", "-W", "10", "-s", "1400", GUEST])?;
    Ok(())
}

fn bulk(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut served = serve(&namespace, backend, &[], "tap")?;
    served.domain.wait_for("serving")?;
    let expected = (0..3_u32 << 20).map(crate::web::pattern);
    ensure!(curl(&namespace, "/big.bin")?.into_iter().eq(expected), "three megabytes");
    Ok(())
}

const IDLE_CONNECTIONS: u64 = 4096;

/// What all of them may cost together, guest and VMM, KiB.
const IDLE_BUDGET_KIB: u64 = 16 << 10;

/// Connections that were used cost little while they are idle, and are still served.
fn idle_connections(backend: Backend) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut served = serve(&namespace, backend, &[], "tap")?;
    served.domain.wait_for("serving")?;
    let domain = &served.domain;
    namespace.inside(|| {
        drop(used_connection()?);
        let before = settled_memory(domain)?;
        let mut idle = Vec::new();
        for _ in 0..IDLE_CONNECTIONS {
            idle.push(used_connection()?);
        }
        let cost = settled_memory(domain)?.saturating_sub(before);
        ensure!(cost <= IDLE_BUDGET_KIB, "{IDLE_CONNECTIONS} idle connections cost {cost} KiB");
        idle.iter_mut().try_for_each(use_connection)
    })?;
    served.domain.stop()?.expect(0, &[])
}

fn used_connection() -> Result<TcpStream> {
    let mut stream = TcpStream::connect((GUEST, 80))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    use_connection(&mut stream)?;
    Ok(stream)
}

fn use_connection(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let (mut response, mut part) = (Vec::new(), [0; 1024]);
    while !response.ends_with(b"0123456789") {
        let len = stream.read(&mut part).context("an idle connection")?;
        ensure!(len > 0, "closed: {}", String::from_utf8_lossy(&response));
        response.extend(&part[..len]);
    }
    Ok(())
}

/// Proportional memory of the VMM and its children, KiB, when it does not change for two seconds.
fn settled_memory(domain: &Domain) -> Result<u64> {
    let mut last = u64::MAX;
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(2));
        let now = memory_of(domain.pid())?;
        if now >= last.saturating_sub(64) {
            return Ok(now.min(last));
        }
        last = now;
    }
    Ok(last)
}

fn memory_of(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    let own: u64 = line.trim().trim_end_matches(" kB").parse()?;
    children_of(pid)?.into_iter().try_fold(own, |sum, child| Ok(sum + memory_of(child)?))
}
