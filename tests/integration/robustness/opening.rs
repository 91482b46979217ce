//! How connections begin: SYNs that come twice, too early, too late, or with things in them.
use super::lan::{GUEST, Lan};
use super::packet::{
    ACK, BROADCAST, FIN, IPV4, PSH, Packet, RST, SYN, Segment, TCP, URG, ethernet, mss,
};
use super::peer::Peer;
use super::services::STREAM_ECHO;
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("syn-twice", syn_twice),
        case("syn-ack-lost", syn_ack_lost),
        case("syn-with-data", syn_with_data),
        case("wrong-ack-in-the-handshake", wrong_ack),
        case("reset-in-the-handshake", reset_in_handshake),
        case("closed-port", closed_port),
        case("malformed-options", malformed_options),
        case("flags-of-all-kinds", all_flags),
        case("impossible-addresses", impossible_addresses),
    ]
}

/// The same SYN again gets the same answer again.
fn syn_twice(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let syn = Peer::syn(4000, STREAM_ECHO, 7);
    let mut talk = peer.start(&syn)?;
    let first = talk.expect("SYN and ACK", |s| s.has(SYN | ACK))?;
    talk.send(&syn)?;
    let second = talk.expect("SYN and ACK again", |s| s.has(SYN | ACK))?;
    ensure!((first.seq, first.ack) == (second.seq, second.ack), "another answer");
    talk.take_syn(&first);
    talk.acknowledge()?;
    talk.is_alive()?;
    lan.finish()
}

/// The answer to a SYN is repeated until it is acknowledged.
fn syn_ack_lost(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.start(&Peer::syn(4000, STREAM_ECHO, 7))?;
    let first = talk.expect("SYN and ACK", |s| s.has(SYN | ACK))?;
    let second = talk.expect("SYN and ACK by itself", |s| s.has(SYN | ACK))?;
    ensure!((first.seq, first.ack) == (second.seq, second.ack), "another answer");
    talk.take_syn(&second);
    talk.acknowledge()?;
    talk.is_alive()?;
    lan.finish()
}

/// Data in a SYN are taken, or wanted again; never lost, and never there twice.
fn syn_with_data(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let syn = Segment { payload: b"early".to_vec(), ..Peer::syn(4000, STREAM_ECHO, 7) };
    let mut talk = peer.start(&syn)?;
    let is_answer = |s: &Segment| s.has(SYN | ACK) && [8, 13].contains(&s.ack);
    let answer = talk.expect("SYN and ACK", is_answer)?;
    talk.take_syn(&answer);
    talk.say(b"early")?;
    ensure!(talk.hear(5)? == b"early", "the data of the SYN");
    talk.is_alive()?;
    lan.finish()
}

/// An acknowledgement of what was not sent resets nobody but the one who sent it.
fn wrong_ack(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.start(&Peer::syn(4000, STREAM_ECHO, 7))?;
    let answer = talk.expect("SYN and ACK", |s| s.has(SYN | ACK))?;
    talk.take_syn(&answer);
    let wrong = talk.expected.wrapping_add(77);
    talk.send(&Segment { ack: wrong, ..talk.segment() })?;
    // RFC 9293, 3.10.7.4: a reset with the number that was acknowledged.
    talk.expect("a reset", |s| s.has(RST) && s.seq == wrong)?;
    talk.acknowledge()?;
    talk.is_alive()?;
    lan.finish()
}

/// A reset ends a connection that was not open yet; the port stays.
fn reset_in_handshake(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.start(&Peer::syn(4000, STREAM_ECHO, 7))?;
    let answer = talk.expect("SYN and ACK", |s| s.has(SYN | ACK))?;
    talk.take_syn(&answer);
    talk.send(&Segment { flags: RST, ack: 0, ..talk.segment() })?;
    talk.never("an answer to the reset", |s| s.len() == 0)?;
    peer.connect(4000, STREAM_ECHO)?.is_alive()?;
    lan.finish()
}

/// Where nobody listens, SYNs and data are refused (RFC 9293, 3.10.7.1), and resets ignored.
fn closed_port(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let talk = peer.start(&Peer::syn(4000, 81, 7))?;
    talk.expect("a refusal", |s| s.has(RST | ACK) && s.seq == 0 && s.ack == 8)?;
    talk.send(&Segment { ack: 1234, ..talk.data_at(0, b"data") })?;
    talk.expect("a reset", |s| s.flags & (RST | ACK) == RST && s.seq == 1234)?;
    talk.send(&Segment { flags: FIN, seq: 100, ..talk.segment() })?;
    talk.expect("a reset", |s| s.has(RST | ACK) && s.ack == 101)?;
    talk.send(&Segment { flags: RST, ..talk.segment() })?;
    talk.never("an answer to a reset", |_| true)?;
    lan.finish()
}

/// Options that contradict themselves: the SYN is answered or not; whoever comes next is served.
fn malformed_options(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let options: [&[u8]; 16] = [
        &[2, 0, 0, 0],
        &[2, 1, 5, 0xb4],
        &[2, 3, 5, 0],
        &[2, 5, 5, 0xb4, 0, 0, 0, 0],
        &[2, 40, 5, 0xb4],
        &[1, 1, 1, 2],
        &[3, 2, 1, 1],
        &[3, 4, 14, 0],
        &[4, 3, 0, 0],
        &[5, 2, 1, 1],
        &[5, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[8, 3, 0, 0],
        &[8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 2, 4, 5],
        &[254, 0, 253, 1],
        &[34, 255, 34, 1],
    ];
    let ports = (4000..).step_by(2);
    for (port, options) in ports.zip(options) {
        let what = format!("options {options:?}");
        let syn = Segment { options: options.to_vec(), ..Peer::syn(port, STREAM_ECHO, 7) };
        let talk = peer.start(&syn)?;
        talk.never("a strange answer", |s| s.ack != 8)?;
        let mut good = peer.connect(port + 1, STREAM_ECHO).with_context(|| what.clone())?;
        good.is_alive().with_context(|| what.clone())?;
        let data = Segment { options: options.to_vec(), ..good.data_at(0, b"strange") };
        good.send(&data)?;
        // Taken or not, in order it is there once.
        good.say(b"strange")?;
        ensure!(good.hear(7)? == b"strange", "data with {what}");
        good.is_alive().with_context(|| what.clone())?;
    }
    lan.finish()
}

/// Every combination of flags, to a port that listens, to one that does not, and to a connection.
fn all_flags(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    for flags in 0..=u8::MAX {
        for port in [STREAM_ECHO, 81] {
            let payload = if flags & PSH == 0 { Vec::new() } else { vec![flags; 3] };
            let strange = Segment { flags, payload, urgent: 2, ..Peer::syn(4000, port, 7) };
            peer.send(&Segment { from: 4000 + u16::from(flags), ..strange })?;
        }
    }
    let mut talk = peer.connect(5000, STREAM_ECHO)?;
    talk.is_alive()?;
    // Outside of the window nothing of this counts, with whatever flags.
    for flags in 0..=u8::MAX {
        let seq = talk.next.wrapping_sub(1_000_000);
        talk.send(&Segment { flags, seq, urgent: 9, ..talk.data_at(0, b"strange") })?;
    }
    talk.is_alive()?;
    // Christmas comes with a reset, which is not at the number that the guest expects.
    let flags = FIN | SYN | RST | PSH | ACK | URG;
    talk.send(&Segment { flags, ..talk.data_at(5, b"strange") })?;
    talk.is_alive()?;
    lan.finish()
}

/// Nobody is at these addresses: no answer, and no harm.
fn impossible_addresses(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, STREAM_ECHO)?;
    let sources = [
        GUEST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::new(10, 77, 0, 255),
        Ipv4Addr::new(10, 77, 0, 0),
    ];
    for source in sources {
        let syn = Segment { to: 7, from: 7, ..Peer::syn(7, 7, 7) };
        send_from(&peer, source, GUEST, &syn)?;
        let syn = Peer::syn(4001, STREAM_ECHO, 7);
        send_from(&peer, source, GUEST, &syn)?;
    }
    for destination in
        [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 77, 0, 255), Ipv4Addr::new(224, 0, 0, 1)]
    {
        let syn = Segment { options: mss(1460), ..Peer::syn(4002, STREAM_ECHO, 7) };
        send_from(&peer, peer.address, destination, &syn)?;
    }
    unanswered(&peer)?;
    talk.is_alive()?;
    lan.finish()
}

fn send_from(peer: &Peer<'_>, from: Ipv4Addr, to: Ipv4Addr, segment: &Segment) -> Result<()> {
    let packet = Packet::new(from, to, TCP, segment.bytes(from, to));
    let bytes = packet.bytes();
    let destination = if to == GUEST { peer.guest_mac } else { BROADCAST };
    peer.send_frame(&ethernet(destination, peer.mac, IPV4, &bytes))
}

/// To the SYNs to everyone there is no answer (RFC 9293, 3.9.2.3).
fn unanswered(peer: &Peer<'_>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(300);
    while let Some(packet) = peer.next_packet(deadline)? {
        ensure!(packet.protocol != TCP, "an answer to {}", packet.to);
    }
    Ok(())
}
