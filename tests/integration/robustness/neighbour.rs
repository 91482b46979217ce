//! Peers that change their Ethernet address in the middle of a connection.
use super::lan::{GUEST, Lan, PEER, PEER_INTERFACE, Pair};
use super::packet::{ARP, ARP_REPLY, ARP_REQUEST, Arp, BROADCAST, Mac, ethernet};
use super::peer::{Peer, Talk};
use super::relay::Impairment;
use super::services::{Family::V4, HASH_LEN, SOURCE, STREAM_ECHO, check_download, connect};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};

const MOVED: Mac = [2, 0, 0, 0, 0, 0xaa];

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("peer-moves-and-speaks", moves_and_speaks),
        case("peer-moves-and-announces-it", moves_and_announces),
        case("peer-moves-and-is-asked-for", moves_silently),
    ]
}

/// Linux with another address goes on with its connections, and opens new ones.
fn moves_and_speaks(backend: Backend) -> Result<()> {
    let pair = Pair::new(backend, Impairment::default(), 1)?;
    pair.linux.inside(|| {
        let mut stream = connect(V4, STREAM_ECHO)?;
        for mac in ["02:00:00:00:00:aa", "02:00:00:00:00:bb", "02:00:00:00:00:aa"] {
            pair.linux.run(&["ip", "link", "set", PEER_INTERFACE, "address", mac])?;
            for stream in [&mut stream, &mut connect(V4, STREAM_ECHO)?] {
                stream.write_all(b"moved")?;
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).context(mac)?;
                ensure!(&answer == b"moved", "{answer:?}");
            }
        }
        Ok(())
    })?;
    pair.finish()
}

/// The guest sends; the peer moves and tells everyone (RFC 5227, 3), as a router does that takes over from
/// another, and has nothing else to say. What the guest sends again finds it.
fn moves_and_announces(backend: Backend) -> Result<()> {
    for operation in [ARP_REQUEST, ARP_REPLY] {
        moved(backend, |peer| {
            let arp = Arp { operation, sender: (MOVED, PEER), target: ([0; 6], PEER) };
            peer.send_frame(&ethernet(BROADCAST, MOVED, ARP, &arp.bytes()))
        })?;
    }
    Ok(())
}

/// The peer asks for the guest's address, which tells its own (RFC 826).
fn moves_silently(backend: Backend) -> Result<()> {
    moved(backend, |peer| {
        let arp = Arp { operation: ARP_REQUEST, sender: (MOVED, PEER), target: ([0; 6], GUEST) };
        peer.send_frame(&ethernet(BROADCAST, MOVED, ARP, &arp.bytes()))
    })
}

fn moved(backend: Backend, tell: impl Fn(&Peer<'_>) -> Result<()>) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    talk.say(&100_000_u64.to_be_bytes())?;
    let first = talk.expect("data", |s| !s.payload.is_empty())?;
    ensure!(first.seq == talk.expected, "data in order");
    let peer = peer.moved_to(MOVED);
    tell(&peer)?;
    let mut talk: Talk<'_> = talk.of(&peer);
    check_download(&talk.hear(100_000 + HASH_LEN)?, 100_000)?;
    lan.finish()
}
