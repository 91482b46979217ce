//! Who is who on the virtual network, and whom the guest may talk to.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Port of the Domain Name System.
const DNS_PORT: u16 = 53;

/// The addresses of the virtual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The guest.
    pub guest: Ipv4Addr,
    /// The gateway: the stack in the VMM. It is the DNS server too.
    pub gateway: Ipv4Addr,
    /// Length of the network prefix, bits, 0 to 32.
    pub prefix_len: u8,
}

impl Default for Addresses {
    /// 10.0.2.15/24 behind 10.0.2.2.
    fn default() -> Self {
        let [guest, gateway] = [Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2)];
        Self { guest, gateway, prefix_len: 24 }
    }
}

/// Where something that the guest sends is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To this address of the host's network.
    Out(SocketAddr),
    /// To the host's resolver.
    Resolver,
    /// Nowhere.
    Refused,
}

impl Addresses {
    /// The mask of the network.
    pub(super) fn mask(&self) -> Ipv4Addr {
        let host_bits = 32 - u32::from(self.prefix_len.min(32));
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    fn is_local(&self, address: Ipv4Addr) -> bool {
        let mask = self.mask().to_bits();
        address.to_bits() & mask == self.guest.to_bits() & mask
    }

    /// The address that stands for a client of a published port: its own where the guest can tell it
    /// from others, else the gateway's.
    pub(super) fn stand_in(&self, client: IpAddr) -> Ipv4Addr {
        match client.to_canonical() {
            IpAddr::V4(address) if !self.is_local(address) && !address.is_loopback() => address,
            _ => self.gateway,
        }
    }

    /// Where to carry what the guest sends to `destination`.
    pub(super) fn route(&self, destination: SocketAddr) -> Route {
        let IpAddr::V4(address) = destination.ip() else { return Route::Refused };
        if address == self.gateway && destination.port() == DNS_PORT {
            return Route::Resolver;
        }
        let first_octet = address.octets()[0];
        let is_refused = self.is_local(address)
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast()
            || destination.port() == 0
            // Linux takes 0.0.0.0 for the host itself; 240.0.0.0/4 is reserved.
            || first_octet == 0
            || first_octet >= 240;
        if is_refused { Route::Refused } else { Route::Out(destination) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_reaches_the_world_but_not_the_host() {
        let route = |text: &str| Addresses::default().route(text.parse().unwrap());
        assert_eq!(route("192.0.2.1:80"), Route::Out("192.0.2.1:80".parse().unwrap()));
        assert_eq!(route("10.0.2.2:53"), Route::Resolver);
        for refused in [
            "127.0.0.1:22",
            "127.8.8.8:53",
            "0.0.0.0:22",
            "0.1.2.3:22",
            "169.254.169.254:80",
            "10.0.2.2:22",
            "10.0.2.99:80",
            "224.0.0.1:80",
            "255.255.255.255:67",
            "240.0.0.1:80",
            "192.0.2.1:0",
            "[::1]:22",
            "[2001:db8::1]:80",
        ] {
            assert_eq!(route(refused), Route::Refused, "{refused}");
        }
    }

    #[test]
    fn clients_are_shown_as_they_are_unless_they_are_local() {
        let stand_in =
            |text: &str| Addresses::default().stand_in(text.parse().unwrap()).to_string();
        assert_eq!(stand_in("192.0.2.7"), "192.0.2.7");
        assert_eq!(stand_in("::ffff:192.0.2.7"), "192.0.2.7");
        for local in ["127.0.0.1", "127.9.9.9", "10.0.2.15", "10.0.2.77", "::1", "2001:db8::1"] {
            assert_eq!(stand_in(local), "10.0.2.2", "{local}");
        }
    }
}
