//! What the guest leaves to its device: checksums and the cutting of large segments.
use super::lan::{Lan, Pair, give_addresses};
use super::packet::{
    ETHERNET_LEN, FIN, IPV4, IPV6, PSH, Packet, RST, SYN, Segment, TCP, segment_in_ipv6,
    split_ethernet,
};
use super::relay::Impairment;
use super::services::{DIGEST, Family, Family::V4, Family::V6, SOURCE, download, exchange, upload};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use crate::namespace::Namespace;
use anyhow::{Result, bail, ensure};
use std::sync::{Arc, Mutex};

/// Largest IP packet of the wire.
const MTU: usize = 1500;

const LEN: usize = 8 << 20;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("segments-on-the-wire", Kind::Device, |backend| on_the_wire(backend, V4)),
        case("segments-on-the-wire-ipv6", Kind::Device, |backend| on_the_wire(backend, V6)),
        case("offloads-on-both-sides", Kind::Device, both_sides),
    ]
}

/// What was seen of the one connection from the service.
#[derive(Debug, Default)]
struct Seen {
    /// The next number, if the connection has begun.
    next: Option<u32>,
    segments: u64,
    /// Segments as large as there can be, and those among them with PSH.
    full: u64,
    full_pushed: u64,
    repeated: u64,
    ends: u64,
    /// The first thing that was wrong.
    wrong: Option<anyhow::Error>,
}

impl Seen {
    fn look(&mut self, frame: &[u8]) {
        if let Err(error) = self.check(frame) {
            self.wrong.get_or_insert(error);
        }
    }

    /// Checksums are checked by the parsers.
    fn check(&mut self, frame: &[u8]) -> Result<()> {
        ensure!(frame.len() <= ETHERNET_LEN + MTU, "a frame of {} bytes", frame.len());
        let (headers_len, segment) = match split_ethernet(frame) {
            Some((.., IPV4, bytes)) if bytes.get(9) == Some(&TCP) => {
                (40, Segment::parse(&Packet::parse(bytes)?)?)
            }
            Some((.., IPV6, bytes)) if bytes.get(6) == Some(&TCP) => (60, segment_in_ipv6(bytes)?),
            _ => return Ok(()),
        };
        if segment.from == SOURCE { self.follow(&segment, MTU - headers_len) } else { Ok(()) }
    }

    /// Numbers leave no gap, only the last segment is the end, and nothing comes behind it.
    fn follow(&mut self, segment: &Segment, len_max: usize) -> Result<()> {
        ensure!(!segment.has(RST), "a reset");
        let end = segment.seq.wrapping_add(segment.len());
        let next = *self.next.get_or_insert(segment.seq);
        let (is_new, is_gap) = (end != next && is_before(next, end), is_before(next, segment.seq));
        ensure!(!is_gap, "a gap before {}", segment.shown());
        ensure!(!(is_new && self.ends > 0), "behind the end: {}", segment.shown());
        self.ends += u64::from(segment.has(FIN) && is_new);
        self.repeated += u64::from(segment.len() > 0 && !is_new);
        self.segments += 1;
        let is_full = segment.payload.len() + segment.options.len() == len_max;
        self.full += u64::from(is_full);
        self.full_pushed += u64::from(is_full && segment.has(PSH));
        ensure!(!segment.has(SYN) || segment.payload.is_empty(), "data in a SYN");
        if is_new {
            self.next = Some(end);
        }
        Ok(())
    }
}

/// Whether `a` comes before `b` in the sequence space.
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// Behind the device are segments as every peer knows them, of which the guest wrote many at once.
fn on_the_wire(backend: Backend, family: Family) -> Result<()> {
    let pair = Pair::new(backend, Impairment::default(), 1)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let watcher = seen.clone();
    pair.relay.watch(Box::new(move |frame| watcher.lock().expect("no panic").look(frame)));
    let before = pair.lan.guest_counter("rx_packets")?;
    pair.all(&[&|| download(family, LEN)])?;
    let frames = pair.lan.guest_counter("rx_packets")? - before;
    pair.finish()?;
    let mut seen = seen.lock().expect("no panic");
    if let Some(wrong) = seen.wrong.take() {
        bail!("{wrong:?}: {seen:?}");
    }
    ensure!(seen.ends == 1, "one end: {seen:?}");
    ensure!(seen.segments > LEN as u64 / 1460, "everything was seen: {seen:?}");
    ensure!(frames < seen.segments / 4, "{frames} frames of the guest for {seen:?}");
    // Of the segments that one large one becomes, the last alone keeps its PSH.
    ensure!(seen.full > LEN as u64 / 2000, "full segments: {seen:?}");
    ensure!(seen.full_pushed < seen.full / 4, "PSH on segments in the middle: {seen:?}");
    Ok(())
}

/// A neighbour with all offloads, so that large segments arrive as such, with checksums left open.
fn both_sides(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let linux = Namespace::new()?;
    let add = ["ip", "link", "add", "far0", "type", "veth", "peer", "name", "near0"];
    linux.run(&[&add[..], &["netns", lan.namespace.name()]].concat())?;
    give_addresses(&linux, "far0")?;
    linux.run(&["ip", "link", "set", "far0", "up"])?;
    lan.namespace.run(&["ip", "link", "set", "near0", "master", "lan0", "up"])?;
    linux.inside(|| {
        for family in [V4, V6] {
            download(family, LEN)?;
            upload(family, DIGEST, LEN)?;
            exchange(family, LEN / 4)?;
        }
        Ok(())
    })?;
    lan.finish()
}
