//! UDP: sockets with bounded queues, and datagrams on their way out.
use crate::arp::Resolution;
use crate::flow::{SeededMap, seeded_map};
use crate::ingress::Received;
use crate::link::send_packet;
use crate::port::FramePort;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use core::task::{Context, Poll, Waker};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};

/// Names a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpId(SlabKey);

/// A datagram with both its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The end on the stack's side.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// The payload.
    pub data: Vec<u8>,
}

/// Most payload bytes that wait in one socket.
const RECEIVE_QUEUE_BYTES_MAX: usize = 128 << 10;

/// Most datagrams that wait to be sent.
const SEND_QUEUE_MAX: usize = 512;

/// Bytes of the headers of IPv4 and UDP.
const HEADERS_LEN: usize = 28;

/// Dynamic ports (RFC 6335, 6).
const EPHEMERAL_FIRST: u64 = 49152;
const EPHEMERAL_COUNT: u64 = 16384;

/// Why a UDP socket does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpError {
    /// The port is in use, or none is free.
    InUse,
    /// The datagram is larger than the MTU allows.
    TooLong,
    /// The socket is closed.
    Closed,
    /// The interface has no address yet.
    NotConfigured,
    /// The address is not IPv4.
    Unsupported,
    /// Too many datagrams wait to be sent.
    Busy,
}

impl core::fmt::Display for UdpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::InUse => "the port is in use",
            Self::TooLong => "the datagram is larger than the network allows",
            Self::Closed => "the socket is closed",
            Self::NotConfigured => "the network has no address yet",
            Self::Unsupported => "the address is not an IPv4 address",
            Self::Busy => "too many datagrams wait to be sent",
        })
    }
}

impl core::error::Error for UdpError {}

#[derive(Debug)]
struct Socket {
    port: u16,
    queue: VecDeque<Datagram>,
    queued_bytes: usize,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Outgoing {
    destination: Ipv4Addr,
    packet: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Udp {
    sockets: Slab<Socket>,
    by_port: SeededMap<u16, SlabKey>,
    outgoing: VecDeque<Outgoing>,
    /// Something in `outgoing` may be sendable that was not in the last poll.
    is_fresh: bool,
}

impl Udp {
    pub(crate) fn new(seed: u64) -> Self {
        let by_port = seeded_map(seed);
        Self { sockets: Slab::new(), by_port, outgoing: VecDeque::new(), is_fresh: false }
    }

    pub(crate) fn has_output(&self) -> bool {
        self.is_fresh
    }

    /// An address became known that datagrams may be waiting for.
    pub(crate) fn address_learned(&mut self) {
        self.is_fresh = !self.outgoing.is_empty();
    }
}

impl Stack {
    /// Opens a socket on `port`, or on a free one for `None`.
    ///
    /// # Errors
    /// The port is in use, or none is free.
    pub fn udp_bind(&mut self, port: Option<u16>) -> Result<UdpId, UdpError> {
        let port = match port {
            Some(port) => port,
            None => self.free_udp_port()?,
        };
        if port == 0 || self.udp.by_port.contains_key(&port) {
            return Err(UdpError::InUse);
        }
        let socket = Socket { port, queue: VecDeque::new(), queued_bytes: 0, waker: None };
        let key = self.udp.sockets.insert(socket).ok_or(UdpError::InUse)?;
        self.udp.by_port.insert(port, key);
        Ok(UdpId(key))
    }

    fn free_udp_port(&mut self) -> Result<u16, UdpError> {
        let start = self.random();
        (0..EPHEMERAL_COUNT)
            .map(|offset| EPHEMERAL_FIRST + start.wrapping_add(offset) % EPHEMERAL_COUNT)
            .filter_map(|port| u16::try_from(port).ok())
            .find(|port| !self.udp.by_port.contains_key(port))
            .ok_or(UdpError::InUse)
    }

    /// The port of a socket.
    #[must_use]
    pub fn udp_port(&self, id: UdpId) -> Option<u16> {
        self.udp.sockets.get(id.0).map(|s| s.port)
    }

    /// Sends a datagram, in the next [`poll`](Self::poll).
    ///
    /// # Errors
    /// The datagram cannot be sent.
    pub fn udp_send(&mut self, id: UdpId, to: SocketAddr, data: &[u8]) -> Result<(), UdpError> {
        let port = self.udp_port(id).ok_or(UdpError::Closed)?;
        let address = self.lease.ok_or(UdpError::NotConfigured)?.address;
        self.queue_datagram(SocketAddr::new(IpAddr::V4(address), port), to, data)
    }

    /// The next datagram of a socket.
    pub fn udp_poll_recv(
        &mut self,
        id: UdpId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Datagram, UdpError>> {
        let Some(socket) = self.udp.sockets.get_mut(id.0) else {
            return Poll::Ready(Err(UdpError::Closed));
        };
        if let Some(datagram) = socket.queue.pop_front() {
            socket.queued_bytes -= datagram.data.len();
            return Poll::Ready(Ok(datagram));
        }
        socket.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Closes a socket.
    pub fn udp_close(&mut self, id: UdpId) {
        if let Some(socket) = self.udp.sockets.remove(id.0) {
            self.udp.by_port.remove(&socket.port);
        }
    }

    /// Gives a datagram to its socket, or to the owner in any-IP mode. Whether anybody took it.
    pub(crate) fn udp_takes(&mut self, received: &Received<'_>, udp: &UdpPacket<&[u8]>) -> bool {
        let [source, destination] = [received.ip.src_addr(), received.ip.dst_addr()];
        let datagram = || Datagram {
            local: SocketAddrV4::new(destination, udp.dst_port()).into(),
            remote: SocketAddrV4::new(source, udp.src_port()).into(),
            data: udp.payload().to_vec(),
        };
        if let Some(&key) = self.udp.by_port.get(&udp.dst_port())
            && let Some(socket) = self.udp.sockets.get_mut(key)
        {
            socket.push(datagram());
            return true;
        }
        let Some(any) = self.any.as_mut() else { return false };
        any.push_datagram(datagram());
        true
    }

    /// Builds an IP packet around a datagram and queues it.
    pub(crate) fn queue_datagram(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        data: &[u8],
    ) -> Result<(), UdpError> {
        let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else {
            return Err(UdpError::Unsupported);
        };
        if HEADERS_LEN + data.len() > self.link.mtu {
            return Err(UdpError::TooLong);
        }
        if self.udp.outgoing.len() >= SEND_QUEUE_MAX {
            return Err(UdpError::Busy);
        }
        let packet = emit(source, destination, data);
        self.udp.outgoing.push_back(Outgoing { destination: *destination.ip(), packet });
        self.udp.is_fresh = true;
        Ok(())
    }

    /// Sends the datagrams whose destinations are known. Whether they all found room.
    pub(crate) fn send_datagrams(&mut self, now: Instant, port: &mut dyn FramePort) -> bool {
        self.udp.is_fresh = false;
        for _ in 0..self.udp.outgoing.len() {
            let Some(outgoing) = self.udp.outgoing.pop_front() else { break };
            match self.resolve_mac(outgoing.destination, None, now) {
                Resolution::Known(mac) => {
                    let ip = EthernetProtocol::Ipv4;
                    if !send_packet(&self.link, port, mac, ip, &outgoing.packet) {
                        self.udp.outgoing.push_front(outgoing);
                        self.udp.is_fresh = true;
                        return false;
                    }
                }
                Resolution::Pending => self.udp.outgoing.push_back(outgoing),
                Resolution::Unreachable => {} // Lost, as datagrams may be.
            }
        }
        true
    }
}

impl Socket {
    fn push(&mut self, datagram: Datagram) {
        if self.queued_bytes + datagram.data.len() > RECEIVE_QUEUE_BYTES_MAX {
            return;
        }
        self.queued_bytes += datagram.data.len();
        self.queue.push_back(datagram);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn emit(source: SocketAddrV4, destination: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: source.port(), dst_port: destination.port() };
    let ip = Ipv4Repr {
        src_addr: *source.ip(),
        dst_addr: *destination.ip(),
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + data.len(),
        hop_limit: 64,
    };
    let mut packet = alloc::vec![0; HEADERS_LEN + data.len()];
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut packet[ip.buffer_len()..]),
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        data.len(),
        |payload| payload.copy_from_slice(data),
        &checksums,
    );
    packet
}
