//! What can go wrong on the network.
use core::fmt;
use paravane_netstack::{DnsError, ListenError, TcpError, UdpError};

/// Why the network did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The machine has no network device.
    NoDevice,
    /// The network device cannot be used, or broke the rules and is not used any more.
    DeviceFailed,
    /// A port cannot be listened on.
    Listen(ListenError),
    /// A connection ended or did not come about.
    Tcp(TcpError),
    /// A datagram could not be sent or received.
    Udp(UdpError),
    /// A name could not be resolved.
    Dns(DnsError),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("there is no network device"),
            Self::DeviceFailed => f.write_str("the network device does not work"),
            Self::Listen(error) => error.fmt(f),
            Self::Tcp(error) => error.fmt(f),
            Self::Udp(error) => error.fmt(f),
            Self::Dns(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for NetError {}

impl From<ListenError> for NetError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

impl From<TcpError> for NetError {
    fn from(error: TcpError) -> Self {
        Self::Tcp(error)
    }
}

impl From<UdpError> for NetError {
    fn from(error: UdpError) -> Self {
        Self::Udp(error)
    }
}

impl From<DnsError> for NetError {
    fn from(error: DnsError) -> Self {
        Self::Dns(error)
    }
}
