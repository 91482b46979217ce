//! TAP interfaces: the fast path between a guest and the host's network.
//!
//! With `CAP_NET_ADMIN` an interface is made for the domain, and disappears with it; its host side is
//! given an address. Without, an interface that the operator made for this user is taken as it is.
mod ipv6;

use crate::devices::FrameLink;
use std::fs::File;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

const DEVICE: &str = "/dev/net/tun";
/// The kernel puts a number in.
const NAME_TEMPLATE: &str = "paravane%d";
const HEADER_LEN: libc::c_int = 12;
/// `TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6` of linux/if_tun.h.
const OFFLOADS: libc::c_uint = 0x01 | 0x02 | 0x04;

/// Why a TAP interface cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No driver, or no access to it.
    #[error("cannot open {DEVICE}: {0}")]
    Open(#[source] io::Error),
    /// Not a name that an interface can have.
    #[error("{0:?} is not a name for an interface: 1 to 15 bytes without slashes and spaces")]
    Name(String),
    /// There is no such interface, and no leave to make one.
    #[error(
        "making a TAP interface needs CAP_NET_ADMIN; take an existing one with --net tap=NAME, made \
         by: ip tuntap add dev NAME mode tap user \"$USER\" && ip link set NAME up"
    )]
    Privilege,
    /// The interface belongs to someone else.
    #[error("the interface {0} is not a TAP interface of this user")]
    Owner(String),
    /// Another process has it.
    #[error("the interface {0} is in use by another process")]
    Busy(String),
    /// It exists, but is no TAP.
    #[error("the interface {0} is not a TAP interface")]
    Kind(String),
    /// It is not up.
    #[error("the interface {0} is down; set it up with: ip link set {0} up")]
    Down(String),
    /// The host side cannot be given its address.
    #[error("cannot give the address {address} to the interface {name}: {source}")]
    Address {
        /// The interface.
        name: String,
        /// The address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {action} the interface {name}: {source}")]
    Other {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What the host's side of a new interface is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSide {
    /// Its address: the guest's gateway.
    pub address: Ipv4Addr,
    /// Length of the network prefix, bits, 0 to 32.
    pub prefix_len: u8,
    /// The same for IPv6, if it is to have an address: the guest's gateway and its prefix, 0 to 128.
    pub ipv6: Option<(Ipv6Addr, u8)>,
}

/// A TAP interface in use.
#[derive(Debug)]
pub struct Tap {
    /// The name of the interface.
    pub name: String,
    /// What a network device talks to.
    pub frames: FrameLink,
    /// The interface was made for this domain and disappears with it.
    pub is_new: bool,
}

/// Takes the interface `name`, or makes it (without a name: with one of the kernel's choice) and gives
/// its host side `host_side`.
///
/// # Errors
/// The first step that failed, as a sentence for the operator.
pub fn open(name: Option<&str>, host_side: HostSide) -> Result<Tap, TapError> {
    let wanted = name.unwrap_or(NAME_TEMPLATE);
    let request = Request::named(wanted).ok_or_else(|| TapError::Name(wanted.to_owned()))?;
    let exists = exists(wanted)?;
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE)
        .map_err(TapError::Open)?;
    let descriptor = OwnedFd::from(file);
    let name = attach(&descriptor, request)
        .map_err(|source| attach_error(wanted.to_owned(), exists, source))?;
    configure(&descriptor, &name)?;
    if exists {
        require_up(&name)?;
    } else {
        set_up(&name, host_side)?;
    }
    Ok(Tap { name, frames: FrameLink::Tap(descriptor), is_new: !exists })
}

/// The argument of the ioctls on interfaces.
struct Request(libc::ifreq);

impl Request {
    fn named(name: &str) -> Option<Self> {
        // SAFETY: `ifreq` is plain data for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        let is_valid = !name.is_empty()
            && name.len() < request.ifr_name.len()
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if !is_valid {
            return None;
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        Some(Self(request))
    }

    fn name(&self) -> String {
        let bytes = self.0.ifr_name.iter().map(|byte| byte.cast_unsigned());
        bytes.take_while(|&byte| byte != 0).map(char::from).collect()
    }

    fn with_address(mut self, address: Ipv4Addr) -> Self {
        let socket_address = libc::sockaddr_in {
            sin_family: libc::AF_INET.unsigned_abs().try_into().unwrap_or_default(),
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: address.to_bits().to_be() },
            sin_zero: [0; 8],
        };
        // SAFETY: both are plain data of 16 bytes; `sockaddr` is the generic form of `sockaddr_in`.
        let generic =
            unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(socket_address) };
        self.0.ifr_ifru.ifru_addr = generic;
        self
    }

    fn call(&mut self, descriptor: RawFd, call: libc::Ioctl) -> io::Result<()> {
        // SAFETY: the calls used here take a pointer to an `ifreq`, which outlives the call.
        let result = unsafe { libc::ioctl(descriptor, call, &raw mut self.0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Attaches the descriptor to the interface; gives its name.
fn attach(descriptor: &OwnedFd, mut request: Request) -> io::Result<String> {
    // IFF_NAPI: frames of the guest go through the batching receive path of the host's stack.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_NAPI;
    request.0.ifr_ifru.ifru_flags = flags.try_into().map_err(io::Error::other)?;
    request.call(descriptor.as_raw_fd(), libc::TUNSETIFF)?;
    Ok(request.name())
}

fn attach_error(name: String, exists: bool, source: io::Error) -> TapError {
    match source.raw_os_error() {
        Some(libc::EPERM) if exists => TapError::Owner(name),
        Some(libc::EPERM) => TapError::Privilege,
        Some(libc::EBUSY) => TapError::Busy(name),
        Some(libc::EINVAL) if exists => TapError::Kind(name),
        _ => TapError::Other { action: "attach to", name, source },
    }
}

/// Sets the length of the header before each frame, and the offloads that the device can pass on.
fn configure(descriptor: &OwnedFd, name: &str) -> Result<(), TapError> {
    let error = |action| {
        let name = name.to_owned();
        move |source| TapError::Other { action, name, source }
    };
    let header_len = HEADER_LEN;
    // SAFETY: TUNSETVNETHDRSZ reads an int, which outlives the call.
    let result = unsafe {
        libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header_len)
    };
    check(result).map_err(error("set the header length of"))?;
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOFFLOAD, OFFLOADS) };
    check(result).map_err(error("set the offloads of"))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether there is an interface of this name. Asked of the kernel: /sys may show another network
/// namespace than this process's.
fn exists(name: &str) -> Result<bool, TapError> {
    let mut request = Request::named(name).ok_or_else(|| TapError::Name(name.to_owned()))?;
    let socket = control_socket().map_err(|source| TapError::Other {
        action: "look for",
        name: name.to_owned(),
        source,
    })?;
    Ok(request.call(socket.as_raw_fd(), libc::SIOCGIFINDEX).is_ok())
}

/// Gives the host's side its address and sets the interface up.
fn set_up(name: &str, host_side: HostSide) -> Result<(), TapError> {
    let HostSide { address, prefix_len, ipv6 } = host_side;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
    let calls = [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, Ipv4Addr::from_bits(mask))];
    let other = |action| move |source| TapError::Other { action, name: name.to_owned(), source };
    let socket = control_socket().map_err(other("set up"))?;
    let refused = |address: IpAddr| {
        move |source| TapError::Address { name: name.to_owned(), address, source }
    };
    let request = || Request::named(name).ok_or_else(|| TapError::Name(name.to_owned()));
    for (call, value) in calls {
        request()?
            .with_address(value)
            .call(socket.as_raw_fd(), call)
            .map_err(refused(address.into()))?;
    }
    ipv6::trust_addresses(name);
    let mut request = request()?;
    request.call(socket.as_raw_fd(), libc::SIOCGIFFLAGS).map_err(other("look at"))?;
    // SAFETY: SIOCGIFFLAGS filled in the flags; every field of the union is plain data.
    let flags = unsafe { request.0.ifr_ifru.ifru_flags };
    request.0.ifr_ifru.ifru_flags = flags | UP;
    request.call(socket.as_raw_fd(), libc::SIOCSIFFLAGS).map_err(other("set up"))?;
    if let Some((address, prefix_len)) = ipv6 {
        ipv6::add_address(name, address, prefix_len).map_err(refused(address.into()))?;
    }
    Ok(())
}

/// `IFF_UP`.
const UP: libc::c_short = 1;

fn require_up(name: &str) -> Result<(), TapError> {
    let mut request = Request::named(name).ok_or_else(|| TapError::Name(name.to_owned()))?;
    control_socket()
        .and_then(|socket| request.call(socket.as_raw_fd(), libc::SIOCGIFFLAGS))
        .map_err(|source| TapError::Other { action: "look at", name: name.to_owned(), source })?;
    // SAFETY: SIOCGIFFLAGS filled in the flags; every field of the union is plain data.
    let flags = unsafe { request.0.ifr_ifru.ifru_flags };
    if flags & UP == 0 { Err(TapError::Down(name.to_owned())) } else { Ok(()) }
}

/// Any socket will do for the ioctls on interfaces.
fn control_socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST_SIDE: HostSide = HostSide {
        address: Ipv4Addr::new(10, 213, 7, 1),
        prefix_len: 30,
        ipv6: Some((Ipv6Addr::new(0xfd13, 0x213, 7, 0, 0, 0, 0, 1), 64)),
    };

    #[test]
    fn names_are_checked_before_anything_is_done() {
        for name in ["", "sixteen-bytes-xx", "a/b", "a b", "a:b"] {
            let error = open(Some(name), HOST_SIDE).unwrap_err();
            assert!(matches!(error, TapError::Name(_)), "{name}: {error}");
        }
    }

    #[test]
    fn an_interface_that_is_no_tap_is_refused() {
        match open(Some("lo"), HOST_SIDE) {
            Err(TapError::Kind(name) | TapError::Owner(name)) => assert_eq!(name, "lo"),
            // A machine without the driver refuses earlier.
            Err(TapError::Open(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    /// With the privilege: the interface is there, has its address, and disappears with the descriptor.
    #[test]
    fn an_interface_is_made_and_removed() {
        if !std::fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            eprintln!("skipped: this machine has no IPv6");
            return;
        }
        let tap = match open(None, HOST_SIDE) {
            Ok(tap) => tap,
            Err(TapError::Open(_) | TapError::Privilege) => {
                eprintln!("skipped: this user may not make TAP interfaces");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(tap.is_new && tap.name.starts_with("paravane"));
        UdpSocket::bind((HOST_SIDE.address, 0)).unwrap();
        // The kernel takes an address into use behind the call's back.
        let (address6, _) = HOST_SIDE.ipv6.unwrap();
        let is_bound = |_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            UdpSocket::bind((address6, 0)).is_ok()
        };
        assert!((0..1000).any(is_bound));
        assert!(matches!(open(Some(&tap.name), HOST_SIDE), Err(TapError::Busy(_))));
        drop(tap);
        assert!(UdpSocket::bind((HOST_SIDE.address, 0)).is_err());
    }
}
