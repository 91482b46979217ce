//! What the interfaces of the host leave to others: a condition of every figure.
use super::Entrant;
use crate::session::Session;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::Command;

/// Commands of ethtool(7) that read a setting, from linux/ethtool.h.
const SETTINGS: [(&str, u32); 4] =
    [("checksums", 0x16), ("tso", 0x1e), ("gso", 0x23), ("gro", 0x2b)];

/// The name of the condition.
const CONDITION: &str = "offload on the host's side";

/// The argument of those commands.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// As much of `struct ifreq` (netdevice(7)) as they need.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: *mut EthtoolValue,
    rest: [u8; 16],
}

/// Notes the state of the interfaces that lead to the servers, once a session.
pub(crate) fn note(session: &mut Session, entrants: &[Entrant]) {
    if session.figures.has_condition(CONDITION) {
        return;
    }
    let states: Vec<_> = entrants
        .iter()
        .filter_map(|entrant| {
            let address = &entrant.running.as_ref()?.server.address;
            let interface = interface_to(address.rsplit_once(':')?.0)?;
            Some(format!("{} ({interface}): {}", entrant.row.contender.name(), state(&interface)))
        })
        .collect();
    session.figures.condition(CONDITION, states.join(", "));
}

/// The interface by which packets to an address leave.
fn interface_to(ip: &str) -> Option<String> {
    word_after(&["-o", "route", "get", ip], "dev")
}

/// The word after another in what ip(8) prints.
fn word_after(arguments: &[&str], word: &str) -> Option<String> {
    let output = Command::new("ip").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().skip_while(|&found| found != word).nth(1).map(str::to_owned)
}

/// Which settings are on, and the MTU.
fn state(interface: &str) -> String {
    let on = |(name, command): (&str, u32)| match read(interface, command) {
        Some(0) => format!("no {name}"),
        Some(_) => name.to_owned(),
        None => format!("{name} unknown"),
    };
    let [mtu, queue] = ["mtu", "qlen"].map(|word| {
        let value = word_after(&["-o", "link", "show", interface], word);
        value.unwrap_or_else(|| "unknown".into())
    });
    format!("{} MTU {mtu} queue {queue}", SETTINGS.map(on).join(" "))
}

fn read(interface: &str, command: u32) -> Option<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    let mut value = EthtoolValue { command, data: 0 };
    let mut request = Request { name: [0; 16], value: &raw mut value, rest: [0; 16] };
    let name = interface.as_bytes().get(..interface.len().min(15))?;
    request.name[..name.len()].copy_from_slice(name);
    // SAFETY: the kernel reads the request, whose name ends with a zero, and writes to the value it
    // points to; both outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    (done == 0).then_some(value.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_segments_by_itself() {
        assert_eq!(interface_to("127.0.0.1").as_deref(), Some("lo"));
        assert!(state("lo").contains("tso gso"), "{}", state("lo"));
        assert!(state("none-such").contains("tso unknown"));
    }
}
