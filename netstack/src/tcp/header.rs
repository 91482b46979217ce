//! Frames around segments: the headers of Ethernet, IP and TCP as we write them.
use super::length;
use super::segment::{Flags, Timestamp};
use super::sequence::Seq;
use crate::flow::Flow;
use crate::ip::{self, HOP_LIMIT, IPV6_LEN, header_len};
use crate::link::{LinkConfig, ethertype, write_header};
use crate::offload::{ETHERNET_LEN, Sum, TCP_CHECKSUM};
use crate::port::{FramePort, TxMeta};
use bytes::Bytes;
use smoltcp::wire::{IpAddress, IpProtocol};

/// Bytes of a TCP header without options.
pub(crate) const TCP_LEN: usize = 20;
/// Most bytes of options (RFC 9293, 3.1).
const OPTIONS_LEN_MAX: usize = 40;
/// Most bytes of headers before a payload: Ethernet, IPv6, TCP with all options.
pub(crate) const HEADERS_LEN_MAX: usize = ETHERNET_LEN + IPV6_LEN + TCP_LEN + OPTIONS_LEN_MAX;

/// Options as they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    bytes: [u8; OPTIONS_LEN_MAX],
    len: usize,
}

impl Options {
    pub(crate) const fn none() -> Self {
        Self { bytes: [0; OPTIONS_LEN_MAX], len: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    pub(crate) fn mss(&mut self, mss: u16) {
        let [high, low] = mss.to_be_bytes();
        self.push(&[2, 4, high, low]);
    }

    pub(crate) fn window_shift(&mut self, shift: u8) {
        self.push(&[1, 3, 3, shift]);
    }

    pub(crate) fn sack_permitted(&mut self) {
        self.push(&[1, 1, 4, 2]);
    }

    pub(crate) fn timestamp(&mut self, timestamp: Timestamp) {
        self.push(&[1, 1, 8, 10]);
        self.push(&timestamp.value.to_be_bytes());
        self.push(&timestamp.echo.to_be_bytes());
    }

    /// As many of `blocks` as there is room for.
    pub(crate) fn sack(&mut self, blocks: &[(Seq, Seq)]) {
        let room = (OPTIONS_LEN_MAX - self.len).saturating_sub(4) / 8;
        let blocks = &blocks[..blocks.len().min(room)];
        let Ok(len @ 1..) = u8::try_from(blocks.len()) else { return };
        self.push(&[1, 1, 5, 2 + 8 * len]);
        for (start, end) in blocks {
            self.push(&start.0.to_be_bytes());
            self.push(&end.0.to_be_bytes());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The header of a segment to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) seq: Seq,
    /// Written as it is, also without [`Flags::ACK`].
    pub(crate) ack: Seq,
    pub(crate) flags: Flags,
    /// The window field, scaled already.
    pub(crate) window: u16,
    pub(crate) options: Options,
}

/// Where frames of a flow go, and through what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) link: &'a LinkConfig,
    pub(crate) destination_mac: [u8; 6],
    pub(crate) flow: &'a Flow,
}

impl Route<'_> {
    fn tcp_start(&self) -> usize {
        ETHERNET_LEN + header_len(self.flow.remote.addr)
    }

    /// Bytes of all headers of a segment.
    pub(crate) fn headers_len(&self, header: &Header) -> usize {
        self.tcp_start() + TCP_LEN + header.options.len
    }

    /// Writes all headers of a segment whose payload has `payload_len` bytes and, if the device does
    /// not complete checksums, the sum `payload`; `segment_size` is what to cut it into, if not 0.
    fn write(
        &self,
        frame: &mut [u8],
        header: &Header,
        payload_len: usize,
        payload: impl FnOnce(&mut Sum),
        segment_size: u16,
    ) -> TxMeta {
        let tcp_start = self.tcp_start();
        let (network, tcp) = frame.split_at_mut(tcp_start);
        let tcp = &mut tcp[..TCP_LEN + header.options.len];
        let segment_len = tcp.len() + payload_len;
        self.write_network(network, segment_len);
        write_tcp(tcp, self.flow, header);
        let (local, remote) = (&self.flow.local.addr, &self.flow.remote.addr);
        let mut sum = Sum::pseudo_header(local, remote, IpProtocol::Tcp, length(segment_len));
        let is_deferred = self.link.offloads.tx_checksum;
        if !is_deferred {
            sum.add(tcp);
            payload(&mut sum);
        }
        let checksum = if is_deferred { sum.folded() } else { !sum.folded() };
        tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        if !is_deferred {
            return TxMeta::default();
        }
        let offset = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        TxMeta {
            needs_csum: true,
            csum_start: offset(tcp_start),
            csum_offset: offset(TCP_CHECKSUM),
            gso_size: segment_size,
            hdr_len: if segment_size == 0 { 0 } else { offset(tcp_start + tcp.len()) },
            gso_is_ipv6: segment_size > 0 && matches!(self.flow.local.addr, IpAddress::Ipv6(_)),
        }
    }

    fn write_network(&self, frame: &mut [u8], segment_len: usize) {
        let (ethernet, network) = frame.split_at_mut(ETHERNET_LEN);
        let [local, remote] = [self.flow.local.addr, self.flow.remote.addr];
        write_header(ethernet, self.link.mac, self.destination_mac, ethertype(local));
        // No flow has ends of two families, see `Stack::connect`.
        let protocol = (IpProtocol::Tcp, HOP_LIMIT);
        let _written = ip::emit_header_alone(network, [local, remote], protocol, segment_len);
    }

    /// Sends a segment whose payload of `len` bytes is written by `fill`. Whether there was room.
    pub(crate) fn send(
        &self,
        port: &mut dyn FramePort,
        header: &Header,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
        segment_size: u16,
    ) -> bool {
        let headers_len = self.headers_len(header);
        let Some(buffer) = port.buffer(headers_len + len) else { return false };
        let (headers, payload) = buffer.split_at_mut(headers_len);
        let payload = &mut payload[..len];
        fill(payload);
        let meta = self.write(headers, header, len, |sum| sum.add(payload), segment_size);
        port.commit(headers_len + len, meta);
        true
    }

    /// Sends a segment without payload. Whether there was room.
    pub(crate) fn send_bare(&self, port: &mut dyn FramePort, header: &Header) -> bool {
        self.send(port, header, 0, |_| {}, 0)
    }

    /// Sends a segment whose payload is the end of `head`, behind room for the headers, and then
    /// `body`, by reference. Whether there was room.
    pub(crate) fn send_pieces(
        &self,
        port: &mut dyn FramePort,
        header: &Header,
        head: &mut Head,
        body: &[Bytes],
        segment_size: u16,
    ) -> bool {
        let body_len: usize = body.iter().map(Bytes::len).sum();
        let start = HEADERS_LEN_MAX - self.headers_len(header);
        let (headers, copied) = head.bytes.split_at_mut(HEADERS_LEN_MAX);
        let copied = &copied[..head.len];
        let payload = |sum: &mut Sum| {
            sum.add(copied);
            body.iter().for_each(|piece| sum.add(piece));
        };
        let payload_len = head.len + body_len;
        let meta = self.write(&mut headers[start..], header, payload_len, payload, segment_size);
        port.send(&head.bytes[start..HEADERS_LEN_MAX + head.len], body, meta)
    }
}

/// Most payload bytes that are copied in front of pieces that are not.
pub(crate) const HEAD_LEN_MAX: usize = 2048;

/// The front of a frame that goes on by reference: room for headers, and then payload.
#[derive(Debug)]
pub(crate) struct Head {
    bytes: [u8; HEADERS_LEN_MAX + HEAD_LEN_MAX],
    len: usize,
}

impl Head {
    /// A head with `len` bytes of payload, which `fill` writes.
    pub(crate) fn new(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = [0; HEADERS_LEN_MAX + HEAD_LEN_MAX];
        fill(&mut bytes[HEADERS_LEN_MAX..HEADERS_LEN_MAX + len]);
        Self { bytes, len }
    }
}

fn write_tcp(tcp: &mut [u8], flow: &Flow, header: &Header) {
    tcp[0..2].copy_from_slice(&flow.local.port.to_be_bytes());
    tcp[2..4].copy_from_slice(&flow.remote.port.to_be_bytes());
    tcp[4..8].copy_from_slice(&header.seq.0.to_be_bytes());
    tcp[8..12].copy_from_slice(&header.ack.0.to_be_bytes());
    // At most 60 bytes, in words of 4.
    tcp[12] = u8::try_from(tcp.len() / 4).unwrap_or(0) << 4;
    tcp[13] = header.flags.bits();
    tcp[14..16].copy_from_slice(&header.window.to_be_bytes());
    tcp[16..20].fill(0);
    tcp[TCP_LEN..].copy_from_slice(header.options.as_slice());
}
