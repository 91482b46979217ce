//! `--publish`: ports of the host that lead to the guest.
use mio::net::{TcpListener, UdpSocket};
use rustix::net::sockopt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Connections that may wait to be taken; the kernel allows what `net.core.somaxconn` says.
const BACKLOG: i32 = 4096;

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A published port: `[ADDRESS:]HOST:GUEST[/tcp|/udp]`, on 127.0.0.1 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The value of `--publish` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not [ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]")]
pub struct PublishParseError(String);

/// A port cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish {host}: {reason}")]
pub struct PublishError {
    host: SocketAddr,
    reason: String,
}

impl FromStr for Publish {
    type Err = PublishParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PublishParseError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Publish> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return None,
    };
    let (host, guest) = ports.rsplit_once(':')?;
    let host = match host.rsplit_once(':') {
        None => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port(host)?),
        Some((address, host_port)) => SocketAddr::new(parse_address(address)?, port(host_port)?),
    };
    Some(Publish { host, guest_port: port(guest)?, protocol })
}

fn parse_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => Some(IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?)),
        None => Some(IpAddr::V4(text.parse().ok()?)),
    }
}

fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| is_plain && port != 0)
}

impl Publish {
    pub(super) fn listen(&self) -> Result<TcpListener, PublishError> {
        let listener = TcpListener::bind(self.host).map_err(|error| self.error(&error))?;
        // Listening once more only sets the backlog (listen(2)), which the library has at 128.
        rustix::net::listen(&listener, BACKLOG).map_err(|error| self.error(&error.into()))?;
        // Its connections have this from it: what the guest sends was cut into segments already.
        sockopt::set_tcp_nodelay(&listener, true).map_err(|error| self.error(&error.into()))?;
        Ok(listener)
    }

    pub(super) fn bind(&self) -> Result<UdpSocket, PublishError> {
        UdpSocket::bind(self.host).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &io::Error) -> PublishError {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE".to_owned()
            }
            _ => error.to_string(),
        };
        PublishError { host: self.host, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_formed_is_read() {
        let check = |text: &str, host: &str, guest_port, protocol| {
            let expect = Publish { host: host.parse().unwrap(), guest_port, protocol };
            assert_eq!(text.parse(), Ok(expect), "{text}");
        };
        check("8080:80", "127.0.0.1:8080", 80, Protocol::Tcp);
        check("0.0.0.0:8080:80/tcp", "0.0.0.0:8080", 80, Protocol::Tcp);
        check("5353:53/udp", "127.0.0.1:5353", 53, Protocol::Udp);
        check("[::1]:8080:80", "[::1]:8080", 80, Protocol::Tcp);
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "80:0",
            "65536:80",
            "+80:80",
            "a:80:80",
            "::1:80:80",
            "80:80/sctp",
            "80:80/",
            "1.2.3.4:80",
            "[1.2.3.4]:80:80",
            "80:80/udp/tcp",
        ] {
            assert!(text.parse::<Publish>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_busy_port_is_named() {
        let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = busy.local_addr().unwrap();
        let publish = Publish { host, guest_port: 80, protocol: Protocol::Tcp };
        let error = publish.listen().unwrap_err();
        assert_eq!(error.to_string(), format!("cannot publish {host}: address already in use"));
    }

    #[test]
    fn connections_have_it_from_their_port_that_small_segments_do_not_wait() {
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = Publish { host, guest_port: 80, protocol: Protocol::Tcp }.listen().unwrap();
        let _client = std::net::TcpStream::connect(host).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
