//! A DHCP client (RFC 2131): one offer, one request, renewal, and starting over when all else fails.
use crate::config::Lease;
use crate::ingress::Received;
use crate::stack::{Stack, is_unicast};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
    IpAddress, UdpPacket,
};

/// Options asked for (RFC 2132): subnet mask, router, DNS servers.
const REQUESTED_OPTIONS: &[u8] = &[1, 3, 6];

/// First wait for an answer, doubled each time (RFC 2131, 4.1), and the longest one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(32);

/// Requests for one offer before looking for another.
const REQUESTS_MAX: u32 = 4;

/// Leases are taken to last at least and at most this long, seconds.
const LEASE_SECONDS_MIN: u32 = 60;
const LEASE_SECONDS_MAX: u32 = 7 * 24 * 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Looking for a server.
    Selecting,
    /// Asking a server for the address that it offered.
    Requesting { server: Ipv4Addr, address: Ipv4Addr, tries: u32 },
    /// The address is ours until `expires`; from `next` on we ask to keep it.
    Bound { address: Ipv4Addr, expires: Instant },
}

/// The client's side of the conversation.
#[derive(Debug)]
pub(crate) struct DhcpClient {
    state: State,
    transaction: u32,
    started: Instant,
    next: Instant,
    wait: Duration,
}

/// What an answer of the server means for the interface.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    Bound(Lease),
    Lost,
}

impl DhcpClient {
    pub(crate) fn new(now: Instant) -> Self {
        let (state, wait) = (State::Selecting, RETRY_FIRST);
        Self { state, transaction: 0, started: now, next: now, wait }
    }

    pub(crate) fn next_deadline(&self) -> Instant {
        self.next
    }

    fn restart(&mut self, now: Instant) {
        *self = Self { transaction: self.transaction, ..Self::new(now) };
    }

    /// The message to send at `now`, if one is due. `fresh` numbers a new conversation.
    fn message(&mut self, mac: [u8; 6], fresh: u32, now: Instant) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        let mut message = blank(mac);
        match &mut self.state {
            State::Selecting => self.transaction = fresh,
            State::Requesting { server, address, tries } => {
                *tries += 1;
                message.message_type = DhcpMessageType::Request;
                message.requested_ip = Some(*address);
                message.server_identifier = Some(*server);
            }
            State::Bound { address, .. } => {
                message.message_type = DhcpMessageType::Request;
                message.client_ip = *address;
                message.broadcast = false;
            }
        }
        message.transaction_id = self.transaction;
        message.secs = u16::try_from((now - self.started).secs()).unwrap_or(u16::MAX);
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(RETRY_MAX);
        emit(&message)
    }

    /// Whether patience with the server is over; the conversation then starts anew.
    fn has_failed(&mut self, now: Instant) -> Outcome {
        match self.state {
            State::Requesting { tries, .. } if tries >= REQUESTS_MAX && now >= self.next => {
                self.restart(now);
                Outcome::Nothing
            }
            State::Bound { expires, .. } if now >= expires => {
                self.restart(now);
                Outcome::Lost
            }
            _ => Outcome::Nothing,
        }
    }

    /// Takes in an answer of a server.
    fn answer(&mut self, mac: [u8; 6], payload: &[u8], now: Instant) -> Option<Outcome> {
        let packet = DhcpPacket::new_checked(payload).ok()?;
        let message = DhcpRepr::parse(&packet).ok()?;
        let is_for_us = message.transaction_id == self.transaction
            && message.client_hardware_address == EthernetAddress(mac);
        if !is_for_us {
            return None;
        }
        Some(match (self.state, message.message_type) {
            (State::Selecting, DhcpMessageType::Offer) => {
                let address = Some(message.your_ip).filter(|a| is_unicast(*a))?;
                let server = message.server_identifier?;
                self.state = State::Requesting { server, address, tries: 0 };
                (self.next, self.wait) = (now, RETRY_FIRST);
                Outcome::Nothing
            }
            (State::Requesting { .. } | State::Bound { .. }, DhcpMessageType::Ack) => {
                let lease = lease(&message)?;
                self.bind(lease.address, message.lease_duration, now);
                Outcome::Bound(lease)
            }
            (State::Requesting { .. }, DhcpMessageType::Nak) => {
                self.restart(now);
                Outcome::Nothing
            }
            (State::Bound { .. }, DhcpMessageType::Nak) => {
                self.restart(now);
                Outcome::Lost
            }
            _ => Outcome::Nothing,
        })
    }

    fn bind(&mut self, address: Ipv4Addr, seconds: Option<u32>, now: Instant) {
        let seconds = seconds.unwrap_or(LEASE_SECONDS_MAX);
        let seconds = u64::from(seconds.clamp(LEASE_SECONDS_MIN, LEASE_SECONDS_MAX));
        self.state = State::Bound { address, expires: now + Duration::from_secs(seconds) };
        self.started = now;
        self.next = now + Duration::from_secs(seconds / 2);
        self.wait = RETRY_MAX;
    }
}

impl Stack {
    /// Whether a datagram is for the DHCP client.
    pub(crate) fn dhcp_takes(&self, received: &Received<'_>, datagram: &UdpPacket<&[u8]>) -> bool {
        self.dhcp.is_some()
            && matches!(received.ip.source, IpAddress::Ipv4(_))
            && datagram.dst_port() == DHCP_CLIENT_PORT
            && datagram.src_port() == DHCP_SERVER_PORT
    }

    pub(crate) fn receive_dhcp(&mut self, now: Instant, payload: &[u8]) -> Option<()> {
        let outcome = self.dhcp.as_mut()?.answer(self.link.mac, payload, now)?;
        self.follow(outcome);
        Some(())
    }

    /// Sends what the client has to say at `now`.
    pub(crate) fn poll_dhcp(&mut self, now: Instant) {
        let Some(client) = &mut self.dhcp else { return };
        if client.next_deadline() > now {
            return;
        }
        let outcome = client.has_failed(now);
        self.follow(outcome);
        let fresh = u32::try_from(self.random() & 0xffff_ffff).unwrap_or(0);
        let mac = self.link.mac;
        let address = self.lease.map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address);
        let Some(message) = self.dhcp.as_mut().and_then(|c| c.message(mac, fresh, now)) else {
            return;
        };
        let from = SocketAddrV4::new(address, DHCP_CLIENT_PORT);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, DHCP_SERVER_PORT);
        // If there is no room for it, it is lost and repeated like any other.
        let _sent = self.queue_datagram(from.into(), to.into(), &message);
    }

    fn follow(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bound(lease) if self.lease != Some(lease) => self.configure(Some(lease)),
            Outcome::Lost => self.configure(None),
            Outcome::Bound(_) | Outcome::Nothing => {}
        }
    }
}

fn lease(message: &DhcpRepr<'_>) -> Option<Lease> {
    let mask = message.subnet_mask?.to_bits();
    let is_contiguous = mask.leading_ones() + mask.trailing_zeros() == 32;
    let dns = message.dns_servers.as_ref().and_then(|servers| servers.first().copied());
    is_contiguous.then_some(Lease {
        address: Some(message.your_ip).filter(|a| is_unicast(*a))?,
        prefix_len: u8::try_from(mask.leading_ones()).ok()?,
        gateway: message.router.filter(|a| is_unicast(*a)),
        dns: dns.filter(|a| is_unicast(*a)),
    })
}

fn blank(mac: [u8; 6]) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type: DhcpMessageType::Discover,
        transaction_id: 0,
        secs: 0,
        client_hardware_address: EthernetAddress(mac),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: Some(EthernetAddress(mac)),
        server_identifier: None,
        parameter_request_list: Some(REQUESTED_OPTIONS),
        dns_servers: None,
        max_size: Some(1024),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

fn emit(message: &DhcpRepr<'_>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

    fn at(s: i64) -> Instant {
        Instant::from_secs(s)
    }

    fn parse(bytes: &[u8]) -> (DhcpMessageType, Option<Ipv4Addr>) {
        let packet = DhcpPacket::new_checked(bytes).unwrap();
        let message = DhcpRepr::parse(&packet).unwrap();
        (message.message_type, message.requested_ip)
    }

    fn reply(kind: DhcpMessageType, transaction: u32) -> Vec<u8> {
        let mut message = blank(MAC);
        message.message_type = kind;
        message.transaction_id = transaction;
        message.your_ip = ADDRESS;
        message.server_identifier = Some(SERVER);
        message.subnet_mask = Some(Ipv4Addr::new(255, 255, 255, 0));
        message.router = Some(SERVER);
        message.lease_duration = Some(3600);
        emit(&message).unwrap()
    }

    fn bound() -> DhcpClient {
        let mut client = DhcpClient::new(at(0));
        client.message(MAC, 7, at(0)).unwrap();
        client.answer(MAC, &reply(DhcpMessageType::Offer, 7), at(0)).unwrap();
        client.message(MAC, 8, at(0)).unwrap();
        client.answer(MAC, &reply(DhcpMessageType::Ack, 7), at(0)).unwrap();
        client
    }

    #[test]
    fn discover_offer_request_ack() {
        let mut client = DhcpClient::new(at(0));
        let discover = client.message(MAC, 7, at(0)).unwrap();
        assert_eq!(parse(&discover), (DhcpMessageType::Discover, None));
        assert_eq!(client.message(MAC, 8, at(0)), None);
        let offer = reply(DhcpMessageType::Offer, 7);
        assert_eq!(client.answer(MAC, &offer, at(0)), Some(Outcome::Nothing));
        let request = client.message(MAC, 8, at(0)).unwrap();
        assert_eq!(parse(&request), (DhcpMessageType::Request, Some(ADDRESS)));
        let lease = Lease { address: ADDRESS, prefix_len: 24, gateway: Some(SERVER), dns: None };
        let ack = reply(DhcpMessageType::Ack, 7);
        assert_eq!(client.answer(MAC, &ack, at(0)), Some(Outcome::Bound(lease)));
        assert_eq!(client.next_deadline(), at(1800));
    }

    #[test]
    fn strangers_answers_are_not_taken() {
        let mut client = DhcpClient::new(at(0));
        client.message(MAC, 7, at(0)).unwrap();
        assert_eq!(client.answer(MAC, &reply(DhcpMessageType::Offer, 8), at(0)), None);
        assert_eq!(client.answer([9; 6], &reply(DhcpMessageType::Offer, 7), at(0)), None);
        assert_eq!(client.answer(MAC, &[0; 100], at(0)), None);
    }

    #[test]
    fn a_lease_that_is_not_renewed_is_lost() {
        let mut client = bound();
        assert!(client.message(MAC, 9, at(1800)).is_some());
        assert_eq!(client.has_failed(at(3599)), Outcome::Nothing);
        assert_eq!(client.has_failed(at(3600)), Outcome::Lost);
        assert_eq!(client.state, State::Selecting);
    }

    #[test]
    fn a_refusal_starts_over() {
        let mut client = bound();
        let nak = reply(DhcpMessageType::Nak, 7);
        assert_eq!(client.answer(MAC, &nak, at(9)), Some(Outcome::Lost));
        assert_eq!(client.state, State::Selecting);
    }
}
