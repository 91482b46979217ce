//! What the owner decides about a stack.
use crate::buffers::BufferLimits;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Everything a [`crate::Stack`] is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ethernet address of the interface.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// What the device can do.
    pub offloads: Offloads,
    /// Where the interface gets its IPv4 addresses from.
    pub addressing: Addressing,
    /// Where the interface gets its IPv6 addresses from.
    pub addressing6: Addressing6,
    /// Any-IP mode: connections and datagrams to all addresses are taken, see the crate's text.
    pub any_ip: bool,
    /// Most TCP connections at a time, half-open ones included. More are refused with RST.
    pub connections_max: usize,
    /// Sizes of the buffers of TCP connections.
    pub buffers: BufferLimits,
    /// Secret random number: hash seeds, initial sequence numbers and ports are drawn from it.
    pub seed: u64,
}

/// What the device does for the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The device completes TCP checksums of sent frames.
    pub tx_checksum: bool,
    /// The device cuts TCPv4 packets larger than the MTU; needs `tx_checksum`.
    pub tx_segmentation: bool,
    /// The device cuts TCPv6 packets larger than the MTU; needs `tx_checksum`.
    pub tx_segmentation6: bool,
}

/// Where the interface gets its IPv4 addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// Fixed addresses.
    Static(Lease),
    /// DHCP (RFC 2131).
    Dhcp,
}

/// Where the interface gets its IPv6 addresses from. With any, it has a link-local address, too, made
/// from its Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing6 {
    /// There is no IPv6.
    #[default]
    Off,
    /// Fixed addresses. What routers advertise does not count.
    Static(Lease6),
    /// What routers advertise (RFC 4862).
    Automatic,
}

/// The IPv6 addresses of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease6 {
    /// Address of the interface.
    pub address: Ipv6Addr,
    /// Bits of the network prefix, 0 to 128.
    pub prefix_len: u8,
    /// Default gateway.
    pub gateway: Option<Ipv6Addr>,
    /// DNS server.
    pub dns: Option<Ipv6Addr>,
}

/// The IPv4 addresses of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Address of the interface.
    pub address: Ipv4Addr,
    /// Bits of the network prefix, 0 to 32.
    pub prefix_len: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// DNS server.
    pub dns: Option<Ipv4Addr>,
}

impl Lease {
    /// Whether `address` is on the interface's own network.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0);
        (address.to_bits() ^ self.address.to_bits()) & mask == 0
    }

    /// Whether `address` means every machine on this network.
    #[must_use]
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let host_mask = u32::MAX.checked_shr(u32::from(self.prefix_len)).unwrap_or(0);
        let all_ones = host_mask > 1 && address.to_bits() & host_mask == host_mask;
        address.is_broadcast() || (all_ones && self.contains(address))
    }

    /// The machine on this network that takes packets for `destination`.
    #[must_use]
    pub fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.contains(destination) { Some(destination) } else { self.gateway }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(prefix_len: u8) -> Lease {
        let [address, gateway] = [Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2)];
        Lease { address, prefix_len, gateway: Some(gateway), dns: None }
    }

    #[test]
    fn the_next_hop_is_the_gateway_outside_the_prefix() {
        let near = Ipv4Addr::new(10, 0, 2, 99);
        let far = Ipv4Addr::new(10, 0, 3, 1);
        assert_eq!(lease(24).next_hop(near), Some(near));
        assert_eq!(lease(24).next_hop(far), lease(24).gateway);
        assert_eq!(lease(0).next_hop(far), Some(far));
        assert_eq!(lease(32).next_hop(near), lease(32).gateway);
    }

    #[test]
    fn broadcast_depends_on_the_prefix() {
        let directed = Ipv4Addr::new(10, 0, 2, 255);
        assert!(lease(24).is_broadcast(directed));
        assert!(!lease(16).is_broadcast(directed));
        assert!(!lease(32).is_broadcast(lease(32).address));
        assert!(lease(16).is_broadcast(Ipv4Addr::BROADCAST));
    }
}
