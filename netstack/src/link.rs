//! The link: Ethernet frames around packets.
use crate::config::Offloads;
use crate::offload::ETHERNET_LEN;
use crate::port::{FramePort, TxMeta};
use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress};

/// The interface's constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: usize,
    pub(crate) offloads: Offloads,
}

impl LinkConfig {
    /// Whether the device cuts packets to `remote` that are longer than the MTU.
    pub(crate) fn segments_tcp(&self, remote: &IpAddress) -> bool {
        let offloads = &self.offloads;
        let segments = match remote {
            IpAddress::Ipv4(_) => offloads.tx_segmentation,
            IpAddress::Ipv6(_) => offloads.tx_segmentation6,
        };
        offloads.tx_checksum && segments
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
