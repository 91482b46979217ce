//! The device that smoltcp sees: IP packets on one side, Ethernet frames in a [`FramePort`] on the
//! other.
use crate::config::Offloads;
use crate::offload::{ETHERNET_LEN, defer_to_device};
use crate::port::{FramePort, TxMeta};
use crate::progress::Progress;
use core::num::NonZeroUsize;
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress};

/// Largest IP packet handed to the device for segmentation, bytes: what the length field can say.
const GSO_PACKET_LEN_MAX: usize = 65535;

/// Bytes of the largest IP and TCP headers that the stack writes.
const HEADERS_LEN_MAX: usize = 40 + 60;

/// The interface's constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: usize,
    pub(crate) offloads: Offloads,
}

impl LinkConfig {
    pub(crate) fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        // Received checksums are verified by the demultiplexer, as only it knows the frame's metadata.
        caps.checksum.udp = Checksum::Tx;
        caps.checksum.tcp = if self.offloads.tx_checksum { Checksum::None } else { Checksum::Tx };
        if self.offloads.tx_checksum && self.offloads.tx_segmentation {
            caps.segmentation.tcpv4 = NonZeroUsize::new(GSO_PACKET_LEN_MAX);
        }
        // smoltcp drops packets of IPv6 that a device is to cut, so TCPv6 is cut by smoltcp itself.
        caps
    }

    /// Room to ask for before a connection with `queued` bytes to send is polled.
    pub(crate) fn frame_len_max(&self, queued: usize) -> usize {
        let packet_max = if self.offloads.tx_segmentation { GSO_PACKET_LEN_MAX } else { self.mtu };
        ETHERNET_LEN + packet_max.min(HEADERS_LEN_MAX + queued)
    }
}

/// One use of the device: at most one packet in, any number of frames out to one destination.
pub(crate) struct Link<'a> {
    config: &'a LinkConfig,
    port: &'a mut dyn FramePort,
    received: Option<&'a [u8]>,
    destination: [u8; 6],
    room: usize,
    /// How far the connection has sent and acknowledged.
    pub(crate) progress: Option<Progress>,
    pub(crate) frames_sent: u32,
    /// The port had no room.
    pub(crate) is_full: bool,
}

impl<'a> Link<'a> {
    /// A link for sending to `destination`; `room` is the length of the longest frame to expect.
    pub(crate) fn sending(
        config: &'a LinkConfig,
        port: &'a mut dyn FramePort,
        destination: [u8; 6],
        room: usize,
    ) -> Self {
        Self {
            config,
            port,
            received: None,
            destination,
            room,
            progress: None,
            frames_sent: 0,
            is_full: false,
        }
    }

    /// A link that delivers `packet`; replies go to `source`, if the port has room for them.
    pub(crate) fn delivering(
        config: &'a LinkConfig,
        port: &'a mut dyn FramePort,
        source: [u8; 6],
        packet: &'a [u8],
    ) -> Self {
        let received = Some(packet);
        Self {
            config,
            port,
            received,
            destination: source,
            room: 0,
            progress: None,
            frames_sent: 0,
            is_full: false,
        }
    }
}

impl phy::Device for Link<'_> {
    type RxToken<'b>
        = RxToken<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = TxToken<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        let packet = self.received.take()?;
        let token = TxToken {
            config: self.config,
            port: &mut *self.port,
            destination: self.destination,
            progress: &mut self.progress,
            frames_sent: &mut self.frames_sent,
            gso_size: 0,
        };
        Some((RxToken(packet), token))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        if self.port.buffer(self.room).is_none() {
            self.is_full = true;
            return None;
        }
        Some(TxToken {
            config: self.config,
            port: &mut *self.port,
            destination: self.destination,
            progress: &mut self.progress,
            frames_sent: &mut self.frames_sent,
            gso_size: 0,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.config.capabilities()
    }
}

/// The packet received.
pub(crate) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Leave to send one packet.
pub(crate) struct TxToken<'a> {
    config: &'a LinkConfig,
    port: &'a mut dyn FramePort,
    destination: [u8; 6],
    progress: &'a mut Option<Progress>,
    frames_sent: &'a mut u32,
    gso_size: u16,
}

impl phy::TxToken for TxToken<'_> {
    fn set_meta(&mut self, meta: PacketMeta) {
        self.gso_size = meta.segmentation_offload_size.map_or(0, u16::from);
    }

    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame_len = ETHERNET_LEN + len;
        let Some(buffer) = self.port.buffer(frame_len) else {
            // Only a reply to a received packet gets here without a check for room before; replies
            // may be lost like any packet.
            return f(&mut alloc::vec![0; len]);
        };
        let frame = &mut buffer[..frame_len];
        let (header, packet) = frame.split_at_mut(ETHERNET_LEN);
        let result = f(packet);
        let protocol =
            if packet[0] >> 4 == 6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 };
        write_header(header, self.config.mac, self.destination, protocol);
        Progress::follow(self.progress, packet, !self.config.offloads.tx_checksum);
        let meta = if self.config.offloads.tx_checksum {
            defer_to_device(packet, self.gso_size)
        } else {
            TxMeta::default()
        };
        *self.frames_sent += 1;
        self.port.commit(frame_len, meta);
        result
    }
}

/// What a frame with a packet to `address` says that it holds.
pub(crate) fn ethertype(address: IpAddress) -> EthernetProtocol {
    match address {
        IpAddress::Ipv4(_) => EthernetProtocol::Ipv4,
        IpAddress::Ipv6(_) => EthernetProtocol::Ipv6,
    }
}

/// Writes an Ethernet header.
pub(crate) fn write_header(
    header: &mut [u8],
    source: [u8; 6],
    destination: [u8; 6],
    protocol: EthernetProtocol,
) {
    let mut frame = EthernetFrame::new_unchecked(header);
    frame.set_src_addr(EthernetAddress(source));
    frame.set_dst_addr(EthernetAddress(destination));
    frame.set_ethertype(protocol);
}

/// Sends one ready-made IP packet. Whether there was room.
pub(crate) fn send_packet(
    config: &LinkConfig,
    port: &mut dyn FramePort,
    destination: [u8; 6],
    protocol: EthernetProtocol,
    packet: &[u8],
) -> bool {
    let len = ETHERNET_LEN + packet.len();
    let Some(buffer) = port.buffer(len) else { return false };
    let (header, body) = buffer[..len].split_at_mut(ETHERNET_LEN);
    write_header(header, config.mac, destination, protocol);
    body.copy_from_slice(packet);
    port.commit(len, TxMeta::default());
    true
}
