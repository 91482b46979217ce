//! `--net`, `--publish`, `--ip`, `--gateway`: the guest's network device.
use super::args::Network;
use super::{Failure, Status, net6, with};
use crate::devices::{Device, FrameLink, NetDevice};
use crate::net::tap::{self, HostSide};
use crate::net::user::{Addresses, Protocol, Publish, UserNetwork};
use paravane_abi::device::{DeviceKind, Ipv6Config, NetConfig};
use paravane_host::bundle::Ipv4;
use paravane_host::devices::NET_TAG;
use paravane_host::image::Image;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Largest IP packet.
const MTU: u16 = 1500;

/// Where a site is published if the operator does not say: the guest's port 80.
const SITE_PUBLISHED: &str = "127.0.0.1:8080:80";

/// Values of `--net`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// A network in user space, without privileges.
    User,
    /// A TAP interface; an existing one if it is named and exists.
    Tap(Option<String>),
    /// No network.
    None,
}

/// An address with the length of its network's prefix, as in `10.0.2.15/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    address: Ipv4Addr,
    prefix_len: u8,
}

/// The network of a guest.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) device: Option<Box<dyn Device>>,
    /// What the supervisor has to carry on once the domain process runs.
    pub(super) user: Option<UserNetwork>,
    /// What to tell the operator.
    pub(super) notices: Vec<String>,
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "user" => Ok(Self::User),
            None if text == "tap" => Ok(Self::Tap(None)),
            None if text == "none" => Ok(Self::None),
            Some(("tap", name)) if !name.is_empty() => Ok(Self::Tap(Some(name.to_owned()))),
            _ => Err("give user, tap, tap=INTERFACE or none"),
        }
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix_len) = text.split_once('/')?;
            let prefix_len = prefix_len.parse().ok().filter(|&len| len <= 32)?;
            Some(Self { address: address.parse().ok()?, prefix_len })
        };
        parse().ok_or("give an IPv4 address with the length of its prefix, such as 10.0.2.15/24")
    }
}

impl Cidr {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// The first address of the network that is not this one: the usual place of a gateway.
    fn neighbour(self) -> Ipv4Addr {
        let first = (self.address.to_bits() & self.mask()).wrapping_add(1);
        let taken = first == self.address.to_bits();
        Ipv4Addr::from_bits(if taken { first.wrapping_add(1) } else { first })
    }
}

/// Makes the network device that the flags ask for.
pub(super) fn build(flags: &Network, image: &Image, has_site: bool) -> Result<Net, Failure> {
    let net = DeviceKind::Net as u32;
    let is_known = image.manifest().devices().iter().any(|d| d.kind == net);
    let choice = flags.net.clone().unwrap_or(if is_known { Choice::User } else { Choice::None });
    if choice != Choice::User && !flags.publish.is_empty() {
        return Err((Status::USAGE, "--publish goes with --net user only".to_owned()));
    }
    let is_tap = matches!(choice, Choice::Tap(_));
    if !is_tap && matches!(flags.ip6, Some(net6::Choice::Address(_))) {
        return Err((Status::USAGE, "--ip6 goes with --net tap only".to_owned()));
    }
    match choice {
        Choice::None => Ok(Net::default()),
        Choice::User => user(flags, has_site),
        Choice::Tap(name) => tap(flags, name.as_deref()),
    }
}

fn user(flags: &Network, has_site: bool) -> Result<Net, Failure> {
    let (ip, gateway) = addresses(flags)?;
    let addresses = Addresses { guest: ip.address, gateway, prefix_len: ip.prefix_len };
    let publish = published(flags, has_site)?;
    let (network, frames) = UserNetwork::new(addresses, &publish).map_err(with(Status::HOST))?;
    let is_tcp = |p: &&Publish| p.protocol == Protocol::Tcp;
    let notices = publish.iter().filter(is_tcp).map(|p| format!("serving http://{}/", p.host));
    let config = config(Some(ip), gateway, gateway);
    Ok(Net {
        device: Some(device(frames.into(), config, Ipv6Config::default())),
        user: Some(network),
        notices: notices.collect(),
    })
}

/// The ports to publish: those asked for, or the usual one of a site.
fn published(flags: &Network, has_site: bool) -> Result<Vec<Publish>, Failure> {
    if has_site && flags.publish.is_empty() {
        return Ok(vec![SITE_PUBLISHED.parse().map_err(with(Status::INTERNAL))?]);
    }
    Ok(flags.publish.clone())
}

/// The addresses of guest and gateway: those given, or usual ones.
fn addresses(flags: &Network) -> Result<(Cidr, Ipv4Addr), Failure> {
    let defaults = Addresses::default();
    let (ip, usual_gateway) = match flags.ip {
        Some(ip) => (ip, ip.neighbour()),
        None => {
            (Cidr { address: defaults.guest, prefix_len: defaults.prefix_len }, defaults.gateway)
        }
    };
    let gateway = flags.gateway.unwrap_or(usual_gateway);
    check_gateway(ip, gateway)?;
    Ok((ip, gateway))
}

fn check_gateway(ip: Cidr, gateway: Ipv4Addr) -> Result<(), Failure> {
    if gateway == ip.address || !ip.contains(gateway) {
        let Cidr { address, prefix_len } = ip;
        let text = format!("the gateway {gateway} is no neighbour of {address}/{prefix_len}");
        return Err((Status::USAGE, text));
    }
    Ok(())
}

/// The addresses of a bundled guest: those given, or none at all, for DHCP.
pub(super) fn bundled(ip: Option<Cidr>, gateway: Option<Ipv4Addr>) -> Result<Ipv4, Failure> {
    let Some(ip) = ip else { return Ok(Ipv4::default()) };
    gateway.map_or(Ok(()), |gateway| check_gateway(ip, gateway))?;
    let gateway = gateway.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ok(Ipv4::new(ip.address.octets(), ip.prefix_len, gateway.octets(), [0; 4]))
}

fn tap(flags: &Network, name: Option<&str>) -> Result<Net, Failure> {
    let (side, address) = addresses(flags)?;
    let side6 = net6::host_side(flags.ip6, flags.gateway6)?;
    let ipv6 = net6::config(flags.ip6, flags.gateway6)?;
    let host_side = HostSide {
        address,
        prefix_len: side.prefix_len,
        ipv6: side6.map(|side| (side.address, side.prefix_len)),
    };
    let tap = tap::open(name, host_side).map_err(with(Status::HOST))?;
    // On an interface of the operator's, addresses come from there: by DHCP, unless given.
    let ip = if tap.is_new { Some(side) } else { flags.ip };
    let gateway = if tap.is_new { address } else { flags.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED) };
    let notices = vec![format!("the guest is on interface {}", tap.name)];
    let config = config(ip, gateway, Ipv4Addr::UNSPECIFIED);
    let ipv6 = match side6.filter(|_| tap.is_new) {
        Some(side) => Ipv6Config { gateway: side.address.octets(), ..ipv6 },
        None => ipv6,
    };
    Ok(Net { device: Some(device(tap.frames, config, ipv6)), user: None, notices })
}

fn device(frames: FrameLink, config: NetConfig, ipv6: Ipv6Config) -> Box<dyn Device> {
    Box::new(NetDevice::new(NET_TAG, frames, config).with_ipv6(ipv6))
}

fn config(ip: Option<Cidr>, gateway: Ipv4Addr, dns: Ipv4Addr) -> NetConfig {
    NetConfig {
        mac: random_mac(),
        mtu: MTU,
        ipv4_address: ip.map_or([0; 4], |ip| ip.address.octets()),
        ipv4_gateway: gateway.octets(),
        ipv4_dns: dns.octets(),
        ipv4_prefix_len: ip.map_or(0, |ip| ip.prefix_len),
        reserved: [0; 3],
    }
}

/// A random locally administered unicast address (IEEE 802): two guests on one network differ.
fn random_mac() -> [u8; 6] {
    let mut mac = [0; 6];
    crate::domain::fill_random(&mut mac);
    mac[0] = mac[0] & !0b11 | 0b10;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!("user".parse(), Ok(Choice::User));
        assert_eq!("tap".parse(), Ok(Choice::Tap(None)));
        assert_eq!("tap=web0".parse(), Ok(Choice::Tap(Some("web0".to_owned()))));
        assert_eq!("none".parse(), Ok(Choice::None));
        for bad in ["", "tap=", "wifi", "user=x", "none=", "TAP"] {
            assert!(bad.parse::<Choice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let gateway = |text: &str| text.parse::<Cidr>().unwrap().neighbour().to_string();
        assert_eq!(gateway("10.0.2.15/24"), "10.0.2.1");
        assert_eq!(gateway("10.0.2.1/24"), "10.0.2.2");
        assert_eq!(gateway("192.168.7.9/16"), "192.168.0.1");
        assert_eq!(gateway("1.2.3.4/0"), "0.0.0.1");
        for bad in ["10.0.2.15", "10.0.2.300/24", "10.0.2.1/33", "10.0.2.1/", "/24", "::1/64"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_addresses_are_local_and_unicast() {
        assert_eq!(random_mac()[0] & 0b11, 0b10);
        assert_ne!(random_mac(), random_mac());
    }
}
