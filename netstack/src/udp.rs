//! UDP: sockets with bounded queues, and datagrams on their way out.
use crate::flow::{SeededMap, seeded_map};
use crate::ingress::Received;
use crate::ip::{self, HOP_LIMIT};
use crate::link::{ethertype, send_packet};
use crate::neighbors::Resolution;
use crate::port::FramePort;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpProtocol, UdpPacket, UdpRepr};

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

/// Bytes of a UDP header.
const UDP_LEN: usize = 8;

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
    /// The interface has no address of the peer's family yet.
    NotConfigured,
    /// The two ends are of different families.
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
            Self::Unsupported => "IPv4 and IPv6 addresses do not mix",
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
    destination: IpAddress,
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
        let address = self.source_for(to.ip()).ok_or(UdpError::NotConfigured)?;
        self.queue_datagram(SocketAddr::new(address, port), to, data)
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
        let [source, destination] = [received.ip.source, received.ip.destination];
        let datagram = || Datagram {
            local: SocketAddr::new(destination.into(), udp.dst_port()),
            remote: SocketAddr::new(source.into(), udp.src_port()),
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
        let to = IpAddress::from(destination.ip());
        if ip::header_len(to) + UDP_LEN + data.len() > self.mtu(to) {
            return Err(UdpError::TooLong);
        }
        if self.udp.outgoing.len() >= SEND_QUEUE_MAX {
            return Err(UdpError::Busy);
        }
        let packet = emit(source, destination, data).ok_or(UdpError::Unsupported)?;
        self.udp.outgoing.push_back(Outgoing { destination: to, packet });
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
                    let protocol = ethertype(outgoing.destination);
                    if !send_packet(&self.link, port, mac, protocol, &outgoing.packet) {
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

/// An IP packet around a datagram. `None` for two families.
fn emit(source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let ends = [source.ip(), destination.ip()].map(IpAddress::from);
    let udp = UdpRepr { src_port: source.port(), dst_port: destination.port() };
    let len = udp.header_len() + data.len();
    let mut packet = alloc::vec![0; ip::header_len(ends[0]) + len];
    let start = ip::emit_header(&mut packet, ends, (IpProtocol::Udp, HOP_LIMIT), len)?;
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut packet[start..]),
        &ends[0],
        &ends[1],
        data.len(),
        |payload| payload.copy_from_slice(data),
        &ChecksumCapabilities::default(),
    );
    Some(packet)
}
