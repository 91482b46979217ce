//! Segments that someone who does not see the connection could have sent, and peers that contradict
//! themselves (RFC 5961, RFC 5927).
use super::lan::{GUEST, Lan};
use super::packet::{ACK, ICMP, MORE_FRAGMENTS, Packet, RST, SYN, Segment, TCP, URG, icmp};
use super::peer::{Peer, Talk};
use super::services::{HASH_LEN, SOURCE, STREAM_ECHO, check_download};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Result, ensure};

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Peer<'_>, Talk<'_>) -> Result<()>| {
        case(name, Kind::Long, move |backend| echoing(backend, body))
    };
    vec![
        case("reset-at-the-expected-number", exact_reset),
        case("reset-elsewhere-in-the-window", reset_in_window),
        case("reset-outside-the-window", reset_outside),
        case("syn-in-a-connection", syn_in_connection),
        case("acknowledgement-of-unsent-data", ack_of_unsent),
        case("data-with-an-old-acknowledgement", old_ack),
        case("urgent-data-stay-in-line", urgent),
        case("overlapping-segments-that-differ", overlapping),
        case("data-outside-the-window", outside_window),
        case("ip-options-and-ttl", ip_options),
        case("fragments", fragments),
        case("icmp-errors-with-wrong-numbers", forged_icmp),
        case("icmp-errors-with-right-numbers", soft_icmp),
    ]
}

/// A connection to the echo, which the guest and its port survive.
fn echoing(backend: Backend, body: fn(&Peer<'_>, Talk<'_>) -> Result<()>) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, STREAM_ECHO)?;
    talk.is_alive()?;
    body(&peer, talk)?;
    peer.connect(4999, STREAM_ECHO)?.is_alive()?;
    lan.finish()
}

fn exact_reset(_: &Peer<'_>, talk: Talk<'_>) -> Result<()> {
    talk.send(&Segment { flags: RST, ..talk.segment() })?;
    talk.never("an answer to the reset", |_| true)?;
    talk.is_gone()
}

/// Who sees the connection can say the right number when asked (RFC 5961, 3.2).
fn reset_in_window(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for offset in [1, 100, 1000] {
        let seq = talk.next.wrapping_add(offset);
        talk.challenge(&Segment { flags: RST, seq, ..talk.segment() })?;
        talk.is_alive()?;
    }
    Ok(())
}

fn reset_outside(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for offset in [-1, -1000, 10_000_000, i32::MAX, i32::MIN] {
        let seq = talk.next.wrapping_add_signed(offset);
        talk.send(&Segment { flags: RST, seq, ..talk.segment() })?;
        talk.send(&Segment { flags: RST | ACK, seq, ..talk.segment() })?;
    }
    talk.never("data or a reset", |s| s.len() > 0 || s.has(RST))?;
    talk.is_alive()
}

/// RFC 5961, 4.2: whatever its number.
fn syn_in_connection(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for offset in [0, 1, 100, -1000, i32::MIN] {
        let seq = talk.next.wrapping_add_signed(offset);
        talk.challenge(&Segment { flags: SYN, seq, ack: 0, ..talk.segment() })?;
    }
    talk.is_alive()
}

/// RFC 9293, 3.10.7.4: it is told what was sent.
fn ack_of_unsent(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    let ack = talk.expected.wrapping_add(1000);
    talk.challenge(&Segment { ack, ..talk.segment() })?;
    talk.challenge(&Segment { ack, ..talk.data_at(0, b"strange") })?;
    talk.is_alive()
}

/// RFC 5961, 5.2: data of someone who does not know what the guest sent are not taken.
fn old_ack(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for back in [100_000_000, 0x7fff_ffff] {
        let ack = talk.expected.wrapping_sub(back);
        talk.challenge(&Segment { ack, ..talk.data_at(0, b"strange") })?;
    }
    talk.is_alive()
}

/// The urgent pointer takes nothing out of the stream (RFC 6093).
fn urgent(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for urgent in [0, 1, 3, 7, 1000, u16::MAX] {
        let data = talk.data_at(0, b"urgent!");
        talk.send(&Segment { urgent, flags: ACK | URG, ..data })?;
        talk.next = talk.next.wrapping_add(7);
        ensure!(talk.hear(7)? == b"urgent!", "with the pointer {urgent}");
    }
    talk.is_alive()
}

/// Of two versions of the same bytes one is taken, whole, and nothing else is changed.
fn overlapping(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for _ in 0..20 {
        talk.send(&talk.data_at(100, &[b'a'; 100]))?;
        talk.send(&talk.data_at(50, &[b'b'; 100]))?;
        talk.send(&talk.data_at(0, &[b'c'; 60]))?;
        talk.next = talk.next.wrapping_add(200);
        let heard = talk.hear(200)?;
        let (first, rest) = heard.split_at(50);
        ensure!(first == [b'c'; 50], "in front: {heard:?}");
        ensure!(rest[..10].iter().all(|b| b"bc".contains(b)), "the first overlap: {heard:?}");
        ensure!(rest[10..50] == [b'b'; 40], "between the overlaps: {heard:?}");
        ensure!(rest[50..100].iter().all(|b| b"ab".contains(b)), "the second: {heard:?}");
        ensure!(rest[50..100].windows(2).all(|w| w[0] == w[1]), "a mixture: {heard:?}");
        ensure!(rest[100..] == [b'a'; 50], "behind: {heard:?}");
        talk.is_alive()?;
    }
    Ok(())
}

/// Data far ahead and long past are not taken; the guest says where it is.
fn outside_window(_: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for offset in [50_000_000, 0x4000_0000, 0u32.wrapping_sub(5000)] {
        talk.challenge(&talk.data_at(offset, b"strange"))?;
        talk.is_alive()?;
    }
    Ok(())
}

/// Packets on their last hop count; those with options count or do not, but harm nobody.
fn ip_options(peer: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    let packet = |talk: &Talk<'_>| {
        let segment = talk.data_at(0, b"options");
        peer.packet(TCP, segment.bytes(peer.address, GUEST))
    };
    peer.send_packet(&Packet { ttl: 1, ..packet(&talk) })?;
    talk.next = talk.next.wrapping_add(7);
    ensure!(talk.hear(7)? == b"options", "with a TTL of 1");
    let options: [&[u8]; 7] = [
        &[1, 1, 1, 1],
        &[0, 0, 0, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[131, 7, 4, 10, 77, 0, 9, 0],
        &[137, 7, 4, 10, 77, 0, 9, 0],
        &[148, 4, 0, 0],
        &[7, 0, 4, 255],
    ];
    for options in options {
        peer.send_packet(&Packet { options: options.to_vec(), ..packet(&talk) })?;
        talk.say(b"options")?;
        ensure!(talk.hear(7)? == b"options", "with IP options {options:?}");
        talk.is_alive()?;
    }
    Ok(())
}

/// The stack takes no fragments. What came in pieces comes again whole.
fn fragments(peer: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    let segment = talk.data_at(0, &[b'f'; 100]).bytes(peer.address, GUEST);
    let (first, second) = segment.split_at(64);
    let first = Packet { id: 1, fragment: MORE_FRAGMENTS, ..peer.packet(TCP, first.to_vec()) };
    let second = Packet { id: 1, fragment: 8, ..peer.packet(TCP, second.to_vec()) };
    for packet in [&first, &second, &second, &first] {
        peer.send_packet(packet)?;
    }
    // Many that never become whole, overlap, or reach beyond what a packet can be.
    for id in 0..2000 {
        peer.send_packet(&Packet { id, ..first.clone() })?;
        peer.send_packet(&Packet { id, fragment: 0x1fff, ..second.clone() })?;
    }
    talk.say(&[b'f'; 100])?;
    ensure!(talk.hear(100)? == [b'f'; 100], "what came whole in the end");
    talk.is_alive()
}

/// An ICMP error about a segment of the guest.
fn error_about(talk: &Talk<'_>, code: u8, mtu: u16, seq: u32) -> Vec<u8> {
    let segment = talk.segment();
    let own = Segment { from: segment.to, to: segment.from, seq, ..Segment::default() };
    let own = own.bytes(GUEST, super::lan::PEER);
    let quoted = Packet::new(GUEST, super::lan::PEER, TCP, own[..8].to_vec()).bytes();
    let [high, low] = mtu.to_be_bytes();
    icmp(3, code, [0, 0, high, low], &quoted)
}

/// Errors about what the guest has not sent end nothing and slow down nothing (RFC 5927, 4.1).
fn forged_icmp(peer: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for code in 0..=15 {
        let seq = talk.expected.wrapping_add(100_000_000);
        peer.send_packet(&peer.packet(ICMP, error_about(&talk, code, 68, seq)))?;
    }
    talk.is_alive()?;
    let mut talk = peer.connect(4001, SOURCE)?;
    let seq = talk.expected.wrapping_add(100_000_000);
    peer.send_packet(&peer.packet(ICMP, error_about(&talk, 4, 68, seq)))?;
    talk.say(&100_000_u64.to_be_bytes())?;
    let first = talk.expect("data", |s| !s.payload.is_empty())?;
    ensure!(first.payload.len() > 1000, "the forged error counted: {}", first.shown());
    check_download(&talk.hear(100_000 + HASH_LEN)?, 100_000)
}

/// Errors end no connection that is open (RFC 5927, 5; RFC 1122, 4.2.3.9), and no MTU is so small that
/// nothing fits through.
fn soft_icmp(peer: &Peer<'_>, mut talk: Talk<'_>) -> Result<()> {
    for code in 0..=15 {
        for mtu in [0, 1, 20, 40, 68, 100, 65535] {
            let seq = talk.expected.wrapping_sub(1);
            peer.send_packet(&peer.packet(ICMP, error_about(&talk, code, mtu, seq)))?;
        }
    }
    talk.is_alive()?;
    let mut talk = peer.connect(4001, SOURCE)?;
    talk.say(&100_000_u64.to_be_bytes())?;
    let first = talk.expect("data", |s| s.seq == talk.expected && !s.payload.is_empty())?;
    for mtu in [0, 1, 40, 41, 68] {
        peer.send_packet(&peer.packet(ICMP, error_about(&talk, 4, mtu, first.seq)))?;
    }
    check_download(&talk.hear(100_000 + HASH_LEN)?, 100_000)
}
