//! ICMP of both families (RFC 792, RFC 4443): echo, errors that others are told, and errors that
//! others tell.
//!
//! Errors are sent at a bounded rate. Those received concern a connection only if they quote a segment
//! of it; whether it sent that segment is for TCP to say (RFC 5927), see [`Stack::icmp_error`].
use crate::flow::Flow;
use crate::ingress::Received;
use crate::ip::{self, IPV4_LEN, IPV6_LEN, Packet, Refusal};
use crate::ipv6::MTU6_MIN;
use crate::link::{ethertype, send_packet};
use crate::mld;
use crate::ndp;
use crate::port::FramePort;
use crate::stack::{MTU_MIN, Stack, is_unicast};
use crate::tcp::control::Opening;
use crate::tcp::sequence::Seq;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpProtocol, checksum};

/// Bytes in front of what a message carries.
const HEADER_LEN: usize = 8;

/// Longest error messages with all headers, bytes (RFC 1812, 4.3.2.3; RFC 4443, 3.1).
const ERROR4_LEN_MAX: usize = 576;
const ERROR6_LEN_MAX: usize = MTU6_MIN;

/// ICMPv4 types and codes.
mod v4 {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const ECHO: u8 = 8;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const CODE_PROTOCOL: u8 = 2;
    pub(super) const CODE_PORT: u8 = 3;
    pub(super) const CODE_FRAGMENTATION: u8 = 4;
}

/// ICMPv6 types and codes.
mod v6 {
    pub(super) const UNREACHABLE: u8 = 1;
    pub(super) const TOO_BIG: u8 = 2;
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub(super) const PARAMETER_PROBLEM: u8 = 4;
    pub(super) const ECHO: u8 = 128;
    pub(super) const ECHO_REPLY: u8 = 129;
    pub(super) const CODE_PORT: u8 = 4;
}

/// Sizes of packets that some link takes, for routers that do not say (RFC 1191, 7.1), bytes.
const PLATEAUS: [usize; 8] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, MTU_MIN];

/// What an error says of the segment that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// A link on the way takes IP packets of at most `mtu` bytes, which is at least what every link
    /// of the family must take.
    PacketTooBig { mtu: usize },
    /// It did not arrive; that may pass.
    Unreachable,
    /// The machine is there, and does not speak TCP or not on this port.
    Refused,
}

/// An error about a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The connection, seen from the stack.
    pub(crate) flow: Flow,
    /// The segment's sequence number.
    pub(crate) sequence: u32,
    pub(crate) error: IcmpError,
}

/// What nobody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untaken {
    Protocol,
    Port,
}

/// Leave to send error messages: some at once, and one each [`INTERVAL_MS`](Self::INTERVAL_MS).
#[derive(Debug)]
pub(crate) struct ErrorBudget {
    left: i64,
    refilled: Instant,
}

impl ErrorBudget {
    const BURST: i64 = 64;
    const INTERVAL_MS: i64 = 10;

    pub(crate) fn new(now: Instant) -> Self {
        Self { left: Self::BURST, refilled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let fresh = (now.total_millis() - self.refilled.total_millis()) / Self::INTERVAL_MS;
        if fresh > 0 {
            self.left = self.left.saturating_add(fresh).min(Self::BURST);
            self.refilled = now;
        }
        let has_left = self.left > 0;
        self.left -= i64::from(has_left);
        has_left
    }
}

impl Stack {
    /// Takes an ICMPv4 message to the interface's own address.
    pub(crate) fn receive_icmpv4(
        &mut self,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let payload = received.ip.payload;
        if payload.len() < HEADER_LEN || checksum::data(payload) != u16::MAX {
            return None;
        }
        if payload[..2] == [v4::ECHO, 0] {
            let mut reply = payload.to_vec();
            reply[0] = v4::ECHO_REPLY;
            let ends = [received.ip.destination, received.ip.source];
            return self.send_icmp(received.source_mac, ends, ip::HOP_LIMIT, reply, port);
        }
        self.follow_report(report_of_v4(&received.ip)?)
    }

    /// Takes an ICMPv6 message, to one of the interface's addresses or to a group.
    pub(crate) fn receive_icmpv6(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let packet = &received.ip;
        let ends = [packet.source, packet.destination];
        let sum = ip::payload_sum(ends, IpProtocol::Icmpv6, packet.payload);
        if packet.payload.len() < HEADER_LEN || sum != u16::MAX {
            return None;
        }
        match packet.payload[..2] {
            [v6::ECHO, 0] => self.answer_echo(now, received, port),
            [mld::QUERY, _] => self.receive_query(now, packet),
            [ndp::ROUTER_SOLICITATION..=ndp::NEIGHBOR_ADVERTISEMENT, _] => {
                self.receive_ndp(now, received, port)
            }
            _ => self.follow_report(report_of_v6(packet)?),
        }
    }

    fn answer_echo(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let (IpAddress::Ipv6(peer), IpAddress::Ipv6(asked)) =
            (received.ip.source, received.ip.destination)
        else {
            return None;
        };
        // A group is answered for by one of its members (RFC 4443, 4.2), within the budget.
        let is_group = asked.is_multicast();
        if peer.is_unspecified() || is_group && !self.error_budget.take(now) {
            return None;
        }
        let own = if is_group { self.ipv6.source_for(peer)? } else { asked };
        let mut reply = received.ip.payload.to_vec();
        reply[0] = v6::ECHO_REPLY;
        self.send_icmp(received.source_mac, [own.into(), peer.into()], ip::HOP_LIMIT, reply, port)
    }

    /// Completes an ICMP message with its checksum and sends it, if there is room.
    pub(crate) fn send_icmp(
        &self,
        destination_mac: [u8; 6],
        ends: [IpAddress; 2],
        hop_limit: u8,
        message: Vec<u8>,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let packet = packet(ends, hop_limit, message)?;
        if packet.len() > self.mtu(ends[1]) {
            return None;
        }
        // Without room it is lost, as packets may be.
        let _sent = send_packet(&self.link, port, destination_mac, ethertype(ends[0]), &packet);
        Some(())
    }

    /// Tells the sender of a packet that nobody takes it, where that is due (RFC 1122, 3.2.2;
    /// RFC 4443, 2.4 e): never a group's, and not for errors.
    pub(crate) fn refuse_packet(
        &mut self,
        untaken: Untaken,
        received: &Received<'_>,
        now: Instant,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let head = match (received.ip.source, untaken) {
            (IpAddress::Ipv4(_), Untaken::Protocol) => [v4::UNREACHABLE, v4::CODE_PROTOCOL],
            (IpAddress::Ipv4(_), Untaken::Port) => [v4::UNREACHABLE, v4::CODE_PORT],
            (IpAddress::Ipv6(_), Untaken::Port) => [v6::UNREACHABLE, v6::CODE_PORT],
            (IpAddress::Ipv6(_), Untaken::Protocol) => {
                // Without extension headers, the number stands in the header itself.
                let (code, pointer) = (ip::PROBLEM_NEXT_HEADER, 6);
                let is_plain = received.ip.bytes.len() == IPV6_LEN + received.ip.payload.len();
                let problem = Refusal::ParameterProblem { code, pointer };
                return is_plain.then(|| self.report_problem(problem, received, now, port))?;
            }
        };
        self.send_error(head, 0, received, now, port)
    }

    /// Tells the sender of an IPv6 packet which field of it cannot be understood.
    pub(crate) fn report_problem(
        &mut self,
        refusal: Refusal,
        received: &Received<'_>,
        now: Instant,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let Refusal::ParameterProblem { code, pointer } = refusal else { return None };
        let pointer = u32::try_from(pointer).ok()?;
        self.send_error([v6::PARAMETER_PROBLEM, code], pointer, received, now, port)
    }

    fn send_error(
        &mut self,
        head: [u8; 2],
        word: u32,
        received: &Received<'_>,
        now: Instant,
        port: &mut dyn FramePort,
    ) -> Option<()> {
        let packet = &received.ip;
        let [peer, own] = [packet.source, packet.destination];
        let is_one = match peer {
            IpAddress::Ipv4(a) => is_unicast(a) && self.lease.is_none_or(|l| !l.is_broadcast(a)),
            IpAddress::Ipv6(a) => crate::ipv6::is_unicast(a),
        };
        let is_icmp = matches!(packet.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
        let is_due = is_one && !is_icmp && !received.is_group && self.is_own(own);
        if !is_due || !self.error_budget.take(now) {
            return None;
        }
        let len_max = match own {
            IpAddress::Ipv4(_) => ERROR4_LEN_MAX - IPV4_LEN,
            IpAddress::Ipv6(_) => ERROR6_LEN_MAX - IPV6_LEN,
        } - HEADER_LEN;
        let quoted = &packet.bytes[..packet.bytes.len().min(len_max)];
        let mut message = Vec::with_capacity(HEADER_LEN + quoted.len());
        message.extend([head[0], head[1], 0, 0]);
        message.extend(word.to_be_bytes());
        message.extend(quoted);
        self.send_icmp(received.source_mac, [own, peer], ip::HOP_LIMIT, message, port)
    }

    fn follow_report(&mut self, report: Report) -> Option<()> {
        let is_known = self.flows.contains_key(&report.flow);
        is_known.then(|| self.icmp_error(&report.flow, report.sequence, report.error))
    }

    /// An error came back that quotes the segment `sequence` of `flow`. Whoever knows the flow can
    /// forge one, so it counts only while that segment is on its way (RFC 5927, 4).
    pub(crate) fn icmp_error(&mut self, flow: &Flow, sequence: u32, error: IcmpError) {
        let Some(&key) = self.flows.get(flow) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let tcb = &mut connection.tcb;
        let is_news = match error {
            IcmpError::PacketTooBig { mtu } => {
                let (mss, _) = Opening::sizes(mtu, &flow.remote.addr);
                tcb.shrink_segments(mss, Seq(sequence))
            }
            // An established connection outlives all that its segments meet with; one that is being
            // opened need not wait where nobody is (RFC 1122, 4.2.3.9).
            IcmpError::Refused => tcb.refused(Seq(sequence), &mut self.buffers),
            IcmpError::Unreachable => false,
        };
        if is_news {
            self.mark_dirty(key);
        }
    }
}

/// An IP packet around an ICMP message, which is completed with its checksum.
pub(crate) fn packet(ends: [IpAddress; 2], hop_limit: u8, mut message: Vec<u8>) -> Option<Vec<u8>> {
    message.get_mut(2..4)?.fill(0);
    let (protocol, sum) = match ends[0] {
        IpAddress::Ipv4(_) => (IpProtocol::Icmp, checksum::data(&message)),
        IpAddress::Ipv6(_) => {
            (IpProtocol::Icmpv6, ip::payload_sum(ends, IpProtocol::Icmpv6, &message))
        }
    };
    message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    let mut packet = alloc::vec![0; ip::header_len(ends[0]) + message.len()];
    let start = ip::emit_header(&mut packet, ends, (protocol, hop_limit), message.len())?;
    packet[start..].copy_from_slice(&message);
    Some(packet)
}

/// The error in an ICMPv4 message, if it is about a TCP segment that the receiver sent.
pub(crate) fn report_of_v4(packet: &Packet<'_>) -> Option<Report> {
    let (head, quoted) = packet.payload.split_first_chunk::<HEADER_LEN>()?;
    let ip = quoted.first_chunk::<IPV4_LEN>()?;
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let is_first_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff == 0;
    if ip[0] >> 4 != 4 || header_len < IPV4_LEN || ip[9] != IpProtocol::Tcp.into() {
        return None;
    }
    let error = match head[..2] {
        [v4::UNREACHABLE, v4::CODE_FRAGMENTATION] => {
            let told = usize::from(u16::from_be_bytes([head[6], head[7]]));
            let sent = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let guess = || PLATEAUS.into_iter().find(|&p| p < sent).unwrap_or(MTU_MIN);
            let mtu = if told == 0 { guess() } else { told };
            IcmpError::PacketTooBig { mtu: mtu.max(MTU_MIN) }
        }
        [v4::UNREACHABLE, v4::CODE_PROTOCOL | v4::CODE_PORT] => IcmpError::Refused,
        [v4::UNREACHABLE | v4::TIME_EXCEEDED, _] => IcmpError::Unreachable,
        _ => return None,
    };
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]).into();
    let tcp = quoted.get(header_len..).filter(|_| is_first_fragment)?;
    report([address(12), address(16)], packet.destination, tcp, error)
}

/// The error in an ICMPv6 message, if it is about a TCP segment that the receiver sent.
pub(crate) fn report_of_v6(packet: &Packet<'_>) -> Option<Report> {
    let (head, quoted) = packet.payload.split_first_chunk::<HEADER_LEN>()?;
    // No extension header is ever sent from here, so none can be quoted.
    let (ip, tcp) = quoted.split_first_chunk::<IPV6_LEN>()?;
    if ip[0] >> 4 != 6 || ip[6] != IpProtocol::Tcp.into() {
        return None;
    }
    let error = match head[..2] {
        [v6::TOO_BIG, _] => {
            let told = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let mtu = usize::try_from(told).unwrap_or(usize::MAX);
            IcmpError::PacketTooBig { mtu: mtu.max(MTU6_MIN) }
        }
        [v6::UNREACHABLE, v6::CODE_PORT] => IcmpError::Refused,
        [v6::PARAMETER_PROBLEM, ip::PROBLEM_NEXT_HEADER] => IcmpError::Refused,
        [v6::UNREACHABLE | v6::TIME_EXCEEDED, _] => IcmpError::Unreachable,
        _ => return None,
    };
    let address = |at: usize| {
        let octets: Option<[u8; 16]> = ip[at..at + 16].try_into().ok();
        octets.map(|octets| IpAddress::from(Ipv6Addr::from(octets)))
    };
    report([address(8)?, address(24)?], packet.destination, tcp, error)
}

/// A report about the segment whose header `tcp` starts with: 8 bytes of it are always there.
fn report(
    [local, remote]: [IpAddress; 2],
    told: IpAddress,
    tcp: &[u8],
    error: IcmpError,
) -> Option<Report> {
    let [s0, s1, d0, d1, rest @ ..] = tcp.first_chunk::<8>()?;
    let flow = Flow::new(
        (local, u16::from_be_bytes([*s0, *s1])),
        (remote, u16::from_be_bytes([*d0, *d1])),
    );
    (local == told).then_some(Report { flow, sequence: u32::from_be_bytes(*rest), error })
}

/// How long after a query the groups are reported, drawn from what the router allows.
pub(crate) fn report_delay(random: u64, millis_max: u64) -> Duration {
    Duration::from_millis(random % millis_max.max(1))
}

#[cfg(test)]
mod tests;
