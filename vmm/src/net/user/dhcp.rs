//! The DHCP server (RFC 2131): offers the guest the one address that is meant for it.
use super::addresses::Addresses;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};
use std::net::{Ipv4Addr, SocketAddr};

/// Ports of the protocol.
pub(super) const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The address is the guest's for as long as it asks: a day at a time.
const LEASE_SECONDS: u32 = 24 * 60 * 60;

/// Where answers go: the guest may have no address yet.
pub(super) fn destination() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::BROADCAST.into(), CLIENT_PORT)
}

/// The answer to a message of the guest, if it gets one.
pub(super) fn answer(message: &[u8], addresses: &Addresses) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let is_for_another =
        request.server_identifier.is_some_and(|server| server != addresses.gateway);
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if is_for_another => return None,
        DhcpMessageType::Request => verdict(&request, addresses),
        _ => return None,
    };
    let is_granted = message_type != DhcpMessageType::Nak;
    let mut dns_servers = request.dns_servers.clone().unwrap_or_default();
    dns_servers.clear();
    // There is room: a server list holds more than one.
    let _ = dns_servers.push(addresses.gateway);
    let granted = |address| if is_granted { address } else { Ipv4Addr::UNSPECIFIED };
    let reply = DhcpRepr {
        message_type,
        your_ip: granted(addresses.guest),
        server_ip: granted(addresses.gateway),
        client_ip: Ipv4Addr::UNSPECIFIED,
        router: is_granted.then_some(addresses.gateway),
        subnet_mask: is_granted.then_some(addresses.mask()),
        lease_duration: is_granted.then_some(LEASE_SECONDS),
        server_identifier: Some(addresses.gateway),
        dns_servers: is_granted.then_some(dns_servers),
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
        ..request
    };
    let mut bytes = vec![0; reply.buffer_len()];
    reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
    Some(bytes)
}

fn verdict(request: &DhcpRepr<'_>, addresses: &Addresses) -> DhcpMessageType {
    let wanted = request.requested_ip.unwrap_or(request.client_ip);
    if wanted == addresses.guest { DhcpMessageType::Ack } else { DhcpMessageType::Nak }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::EthernetAddress;

    fn ask(message_type: DhcpMessageType, requested: Option<Ipv4Addr>) -> Vec<u8> {
        let request = DhcpRepr {
            message_type,
            transaction_id: 0x1234_5678,
            secs: 0,
            client_hardware_address: EthernetAddress([2, 0, 0, 0, 0, 1]),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: requested,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
        bytes
    }

    #[test]
    fn the_guest_gets_its_address_and_no_other() {
        let addresses = Addresses::default();
        let check = |message_type, requested, expect| {
            let bytes = answer(&ask(message_type, requested), &addresses).unwrap();
            let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
            let reply = DhcpRepr::parse(&packet).unwrap();
            assert_eq!(reply.message_type, expect);
            assert_eq!(reply.transaction_id, 0x1234_5678);
            if expect != DhcpMessageType::Nak {
                assert_eq!(reply.your_ip, addresses.guest);
                assert_eq!(reply.router, Some(addresses.gateway));
                assert_eq!(reply.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
                assert_eq!(reply.dns_servers.unwrap().as_slice(), [addresses.gateway]);
            }
        };
        check(DhcpMessageType::Discover, None, DhcpMessageType::Offer);
        check(DhcpMessageType::Request, Some(addresses.guest), DhcpMessageType::Ack);
        check(DhcpMessageType::Request, Some(addresses.gateway), DhcpMessageType::Nak);
    }

    #[test]
    fn other_messages_get_no_answer() {
        let addresses = Addresses::default();
        assert_eq!(answer(&[0; 300], &addresses), None);
        assert_eq!(answer(&[], &addresses), None);
        assert_eq!(answer(&ask(DhcpMessageType::Release, None), &addresses), None);
    }
}
