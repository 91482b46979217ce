//! The IPv6 address of an interface's host side.
use std::ffi::CString;
use std::fs;
use std::io;
use std::mem;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Lets the host use its addresses on the interface at once, without probing for duplicates: its only
/// other machine is a guest that starts later, and does probe. Call it before the interface is up.
///
/// Where the kernel's settings cannot be changed, as in many containers, the addresses can be used a
/// second or two later.
pub(super) fn trust_addresses(name: &str) {
    let setting = format!("/proc/sys/net/ipv6/conf/{name}/accept_dad");
    let _is_only_slower = fs::write(setting, "0");
}

/// Gives the interface `name` an address.
pub(super) fn add_address(name: &str, address: Ipv6Addr, prefix_len: u8) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is a string that ends with NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let index = i32::try_from(index).ok().filter(|&index| index > 0);
    // SAFETY: `in6_ifreq` is plain data for which zeroes are valid.
    let mut request: libc::in6_ifreq = unsafe { mem::zeroed() };
    request.ifr6_addr.s6_addr = address.octets();
    request.ifr6_prefixlen = prefix_len.into();
    request.ifr6_ifindex = index.ok_or_else(io::Error::last_os_error)?;
    // The call is the protocol's own, so the socket has to be of IPv6.
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    // SAFETY: on a socket of IPv6, SIOCSIFADDR reads an `in6_ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
