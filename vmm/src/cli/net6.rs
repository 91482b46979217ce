//! `--ip6`, `--gateway6`: the guest's IPv6 addresses.
use super::{Failure, Status};
use paravane_abi::device::{Ipv6Config, Ipv6Mode};
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Values of `--ip6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// No IPv6.
    None,
    /// This address.
    Address(Cidr),
}

/// An address with the length of its network's prefix, as in `fd00::2/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) address: Ipv6Addr,
    pub(super) prefix_len: u8,
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix_len) = text.split_once('/')?;
            let prefix_len = prefix_len.parse().ok().filter(|&len| len <= 128)?;
            let address: Ipv6Addr = address.parse().ok().filter(is_one_machines)?;
            Some(Self::Address(Cidr { address, prefix_len }))
        };
        if text == "none" { Some(Self::None) } else { parse() }.ok_or(
            "give an IPv6 address with the length of its prefix, such as fd00::2/64, or none",
        )
    }
}

/// Whether an interface can have the address: the guest makes its link-local one itself.
fn is_one_machines(address: &Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}

impl Cidr {
    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    fn contains(self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// The first address of the network that is not this one: the usual place of a gateway.
    fn neighbour(self) -> Ipv6Addr {
        let first = (self.address.to_bits() & self.mask()).wrapping_add(1);
        let is_taken = first == self.address.to_bits();
        Ipv6Addr::from_bits(if is_taken { first.wrapping_add(1) } else { first })
    }
}

/// The guest's configuration, with the gateway if it is given; without an address, routers say.
pub(super) fn config(
    choice: Option<Choice>,
    gateway: Option<Ipv6Addr>,
) -> Result<Ipv6Config, Failure> {
    let plain = |mode| Ipv6Config { mode: mode as u8, ..Ipv6Config::default() };
    let Some(choice) = choice else { return Ok(plain(Ipv6Mode::Automatic)) };
    match choice {
        Choice::None if gateway.is_some() => {
            Err((Status::USAGE, "--gateway6 goes with an address in --ip6 only".to_owned()))
        }
        Choice::None => Ok(plain(Ipv6Mode::Off)),
        Choice::Address(ip) => {
            gateway.map_or(Ok(()), |gateway| check_gateway(ip, gateway))?;
            Ok(Ipv6Config {
                address: ip.address.octets(),
                gateway: gateway.unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
                prefix_len: ip.prefix_len,
                ..plain(Ipv6Mode::Static)
            })
        }
    }
}

/// The address of the host's side of an interface that is made: the guest's gateway.
pub(super) fn host_side(
    choice: Option<Choice>,
    gateway: Option<Ipv6Addr>,
) -> Result<Option<Cidr>, Failure> {
    let Some(Choice::Address(ip)) = choice else { return Ok(None) };
    let address = gateway.unwrap_or(ip.neighbour());
    check_gateway(ip, address)?;
    Ok(Some(Cidr { address, ..ip }))
}

/// A router is known by an address of the guest's network or, more often, by its link-local one.
fn check_gateway(ip: Cidr, gateway: Ipv6Addr) -> Result<(), Failure> {
    let is_near = ip.contains(gateway) || gateway.is_unicast_link_local();
    if gateway == ip.address || !is_near {
        let Cidr { address, prefix_len } = ip;
        let text = format!("the gateway {gateway} is no neighbour of {address}/{prefix_len}");
        return Err((Status::USAGE, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        match text.parse() {
            Ok(Choice::Address(cidr)) => cidr,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn addresses() {
        assert_eq!("none".parse(), Ok(Choice::None));
        let gateway = |text: &str| cidr(text).neighbour().to_string();
        assert_eq!(gateway("fd00::2/64"), "fd00::1");
        assert_eq!(gateway("fd00::1/64"), "fd00::2");
        assert_eq!(gateway("fd00:1:2:3:4::/48"), "fd00:1:2::1");
        assert_eq!(gateway("2001:db8::5/0"), "::1");
        for bad in ["fd00::2", "fd00::2/129", "fd00::2/", "/64", "10.0.2.1/24", "auto"] {
            assert!(bad.parse::<Choice>().is_err(), "{bad}");
        }
        for bad in ["::/64", "::1/128", "ff02::1/64", "fe80::2/64", "::ffff:10.0.0.1/96"] {
            assert!(bad.parse::<Choice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn configurations() {
        let mode = |choice| config(choice, None).ok().map(|config| config.mode());
        assert_eq!(mode(None), Some(Ipv6Mode::Automatic));
        assert_eq!(mode(Some(Choice::None)), Some(Ipv6Mode::Off));
        let given = Some(Choice::Address(cidr("fd00::2/64")));
        assert_eq!(mode(given), Some(Ipv6Mode::Static));
        let gateway = |text: &str| config(given, text.parse().ok()).map(|c| c.gateway);
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        assert!(gateway("fe80::1").is_ok_and(|found| found == router.octets()));
        assert!(gateway("fd00::2").is_err());
        assert!(gateway("fd01::1").is_err());
        assert!(config(Some(Choice::None), Some(router)).is_err());
    }

    #[test]
    fn the_host_is_the_gateway_of_what_it_makes() {
        let given = Some(Choice::Address(cidr("fd00::2/64")));
        let side = |gateway: Option<&str>| {
            let side = host_side(given, gateway.and_then(|text| text.parse().ok()));
            side.ok().flatten().map(|side| side.address.to_string())
        };
        assert_eq!(side(None).as_deref(), Some("fd00::1"));
        assert_eq!(side(Some("fd00::9")).as_deref(), Some("fd00::9"));
        assert_eq!(side(Some("fd01::9")), None);
        assert!(host_side(None, None).is_ok_and(|side| side.is_none()));
    }
}
