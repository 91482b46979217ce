//! How far a connection has come, as its own segments say.
use crate::offload::tcp_header;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber};

/// The next sequence numbers of both directions (RFC 9293, 3.3.1: SND.NXT and RCV.NXT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Next sequence number of ours: behind everything that was ever sent.
    pub(crate) send_next: TcpSeqNumber,
    /// Next sequence number of the peer's.
    pub(crate) receive_next: TcpSeqNumber,
}

impl Progress {
    /// Follows an IP packet that is about to be sent.
    ///
    /// Acknowledgements without data are given SND.NXT as their sequence number, as RFC 9293, 3.10.7.4
    /// has it. smoltcp goes back with it while it retransmits; a peer that has received more by then
    /// finds such an acknowledgement outside its window and does not take it. If both ends do that at
    /// once, neither ever hears the other. `has_checksum` says that the segment has its checksum
    /// already.
    pub(crate) fn follow(progress: &mut Option<Self>, packet: &mut [u8], has_checksum: bool) {
        let Some(start) = tcp_header(packet) else { return };
        let (ip, tcp) = packet.split_at_mut(start);
        let mut segment = TcpPacket::new_unchecked(tcp);
        if segment.rst() {
            return; // It may answer a segment of another life of the connection, in its terms.
        }
        let len = segment.segment_len();
        let mut send_next = segment.seq_number() + len;
        let is_behind = |before: &Self| before.send_next > send_next && !segment.syn();
        if let Some(before) = progress.filter(is_behind) {
            send_next = before.send_next;
            if len == 0 {
                segment.set_seq_number(send_next);
                if has_checksum {
                    let [source, destination] = ends(ip);
                    segment.fill_checksum(&source, &destination);
                }
            }
        }
        *progress = Some(Self { send_next, receive_next: segment.ack_number() });
    }
}

fn ends(header: &[u8]) -> [IpAddress; 2] {
    if header[0] >> 4 == 6 {
        let ip = Ipv6Packet::new_unchecked(header);
        [ip.src_addr().into(), ip.dst_addr().into()]
    } else {
        let ip = Ipv4Packet::new_unchecked(header);
        [ip.src_addr().into(), ip.dst_addr().into()]
    }
}
