//! How connections end, and what is remembered of them.
use super::lan::Lan;
use super::packet::{ACK, FIN, RST, SYN, Segment};
use super::peer::{Peer, Talk};
use super::services::{
    DIGEST, ECHO, FAREWELL, SOURCE, STREAM_ECHO, check_digest, check_download, noise,
};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Result, ensure};

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("half-closed-by-the-peer", half_closed_by_peer),
        case("half-closed-by-the-guest", half_closed_by_guest),
        case("fin-with-data", fin_with_data),
        case("fin-before-its-data", fin_early),
        case("simultaneous-close", simultaneous_close),
        case("fin-lost", fin_lost),
        case("time-wait-knows-old-duplicates", time_wait),
        case("time-wait-is-reused", time_wait_reused),
    ]
}

/// The peer has finished; the guest still sends, and all of it arrives.
fn half_closed_by_peer(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    talk.say(&300_000_u64.to_be_bytes())?;
    talk.finish()?;
    check_download(&talk.hear_to_end()?, 300_000)?;
    lan.finish()
}

/// The guest has finished; the peer still sends, and all of it arrives.
fn half_closed_by_guest(backend: Backend) -> Result<()> {
    let mut lan = Lan::new(backend)?;
    {
        let peer = Peer::new(&lan.wire)?;
        let mut talk = peer.connect(4000, FAREWELL)?;
        ensure!(talk.hear_to_end()? == b"hello", "what it says before it closes");
        for part in noise(1, 100_000).chunks(2000) {
            talk.say(part)?;
            talk.expect("an acknowledgement", |s| s.ack == talk.next)?;
        }
        talk.finish()?;
        talk.expect("the acknowledgement of the end", |s| s.ack == talk.next)?;
    }
    lan.domain.wait_for("after the farewell: 100000 bytes, first of the hash")?;
    lan.finish()
}

/// The last data and the end in one segment.
fn fin_with_data(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, ECHO)?;
    talk.say(b"all but the last, ")?;
    let last = Segment { flags: FIN | ACK, ..talk.data_at(0, b"and the last") };
    talk.send(&last)?;
    talk.next = talk.next.wrapping_add(13);
    ensure!(talk.hear_to_end()? == b"all but the last, and the last", "all of it");
    // A copy of the end finds nobody any more.
    talk.send(&last)?;
    talk.never("data", |s| s.len() > 0)?;
    lan.finish()
}

/// The end arrives before what comes before it; nothing is cut off.
fn fin_early(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, DIGEST)?;
    let bytes = noise(2, 3000);
    let last = Segment { flags: FIN | ACK, ..talk.data_at(2000, &bytes[2000..]) };
    talk.send(&last)?;
    talk.send(&talk.data_at(1000, &bytes[1000..2000]))?;
    talk.never("data or an end", |s| s.len() > 0)?;
    talk.send(&talk.data_at(0, &bytes[..1000]))?;
    // What came early is kept, or wanted again.
    let after = talk.next.wrapping_add(3001);
    let wanted = talk.expect("an acknowledgement", |s| s.ack != talk.next)?.ack;
    if wanted.wrapping_sub(talk.next) < 2000 {
        talk.send(&talk.data_at(1000, &bytes[1000..2000]))?;
    }
    if wanted != after {
        talk.insist(&last, "the acknowledgement of the end", |s| s.ack == after)?;
    }
    talk.next = after;
    talk.acknowledge()?;
    check_digest(&talk.hear_to_end()?, &bytes)?;
    lan.finish()
}

/// Both ends at once: each acknowledges the other's (CLOSING).
fn simultaneous_close(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    talk.say(&0_u64.to_be_bytes())?;
    // All data and the end, of which nothing is acknowledged yet.
    let end = talk.expect("the end", |s| s.has(FIN))?;
    talk.finish()?;
    let fin = Segment { flags: FIN | ACK, seq: talk.next.wrapping_sub(1), ..talk.segment() };
    talk.expect("the acknowledgement of the peer's end", |s| s.ack == talk.next)?;
    talk.expected = end.seq.wrapping_add(end.len());
    talk.acknowledge()?;
    // TIME-WAIT: it was the guest that closed first.
    talk.send(&Segment { ack: talk.expected, ..fin })?;
    talk.expect("the acknowledgement again", |s| {
        s.flags & (ACK | RST) == ACK && s.ack == talk.next
    })?;
    lan.finish()
}

/// An end that is not acknowledged comes again.
fn fin_lost(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    talk.say(&0_u64.to_be_bytes())?;
    let first = talk.expect("the end", |s| s.has(FIN))?;
    let end = |s: &Segment| s.seq.wrapping_add(s.len());
    for _ in 0..2 {
        let again = talk.expect("the end again", |s| s.has(FIN))?;
        ensure!(end(&again) == end(&first), "another end: {}", again.shown());
    }
    check_download(&talk.hear_to_end()?, 0)?;
    talk.finish()?;
    talk.expect("the last acknowledgement", |s| s.ack == talk.next)?;
    lan.finish()
}

/// A connection that the guest closed first, and that is over.
fn buried<'a>(peer: &'a Peer<'a>, seq: u32) -> Result<Talk<'a>> {
    let mut talk = peer.connect_with(Peer::syn(4000, SOURCE, seq))?;
    talk.say(&100_u64.to_be_bytes())?;
    check_download(&talk.hear_to_end()?, 100)?;
    talk.finish()?;
    talk.expect("the last acknowledgement", |s| s.ack == talk.next)?;
    Ok(talk)
}

/// What was under way when the connection ended opens and resets nothing; the peer hears how it ended.
fn time_wait(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let talk = buried(&peer, 1_000_000)?;
    let is_last = |s: &Segment| s.flags & (ACK | SYN | RST) == ACK && s.ack == talk.next;
    // The last segment again, as its acknowledgement may have been lost.
    let fin = Segment { flags: FIN | ACK, seq: talk.next.wrapping_sub(1), ..talk.segment() };
    talk.send(&fin)?;
    talk.expect("the last acknowledgement again", is_last)?;
    // The SYN of the same connection, and that of one before it (RFC 9293, 3.6.1).
    for seq in [1_000_000, 900_000] {
        talk.send(&Peer::syn(4000, SOURCE, seq))?;
        talk.expect("the last acknowledgement, for an old SYN", is_last)?;
    }
    talk.send(&Segment { seq: 1_000_001, ..talk.data_at(0, b"old data") })?;
    talk.never("data, a SYN or a reset", |s| s.len() > 0 || s.has(RST))?;
    lan.finish()
}

/// The same addresses and ports with higher numbers are a new connection (RFC 9293, 3.10.7.4), again and
/// again, and also across the end of the numbers.
fn time_wait_reused(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut seq = 0_u32.wrapping_sub(1_000_000);
    for _ in 0..50 {
        seq = buried(&peer, seq)?.next.wrapping_add(100_000);
    }
    peer.connect(4000, STREAM_ECHO)?.is_alive()?;
    lan.finish()
}
