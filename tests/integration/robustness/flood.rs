//! Floods: many frames from nobody, while somebody is served.
use super::lan::{GUEST, Pair, resident_len};
use super::packet::{
    ARP, ARP_REPLY, ARP_REQUEST, Arp, BROADCAST, ICMP, IPV4, Mac, Packet, TCP, UDP, datagram,
    ethernet, icmp,
};
use super::peer::Peer;
use super::random::Random;
use super::relay::Impairment;
use super::services::{
    DIGEST, ECHO, Family::V4, STREAM_ECHO, connect, download, memory_returns, memory_used, ping,
    upload,
};
use super::tap::Tap;
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Frames a second, and how many there have to be.
const RATE: u64 = 20_000;
const FRAMES_MIN: u64 = 50_000;

/// Where the floods come from.
const FLOODER: Mac = [2, 0, 0, 0, 0, 0x66];

/// What a guest of 64 MiB may take more of the host's memory in a flood, bytes.
const RESIDENT_MORE_MAX: u64 = 24 << 20;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("flood-of-syns", |backend| flood(backend, syn)),
        case("flood-of-garbage", |backend| flood(backend, garbage)),
        case("flood-of-packets", |backend| flood(backend, nonsense_packet)),
        case("flood-of-arp", |backend| flood(backend, arp)),
    ]
}

/// A frame of a flood.
type Frame = fn(&mut Random, Mac) -> Vec<u8>;

/// During the flood, an old connection works, and new ones come about; afterwards, the memory is back.
fn flood(backend: Backend, frame: Frame) -> Result<()> {
    let pair = Pair::new(backend, Impairment::default(), 1)?;
    pair.all(&[&ping])?;
    let guest_mac = pair.guest_mac()?;
    let used_before = pair.linux.inside(memory_used)?;
    let resident_before = resident_len(&pair.lan.domain)?;
    let flood = Flood::start(pair.lan.wire.clone(), guest_mac, frame);
    let work: [&(dyn Fn() -> Result<()> + Sync); 3] =
        [&|| old_connection(&flood), &|| new_connections(&flood), &|| {
            download(V4, 1 << 20).and_then(|()| upload(V4, DIGEST, 1 << 20))
        }];
    pair.all(&work)?;
    let resident = resident_len(&pair.lan.domain)?;
    let sent = flood.stop();
    ensure!(sent >= FRAMES_MIN, "only {sent} frames");
    let more = resident.saturating_sub(resident_before);
    ensure!(more <= RESIDENT_MORE_MAX, "{more} bytes of the host's memory more");
    pair.linux.inside(|| memory_returns(used_before)).map(drop)?;
    pair.finish()
}

/// One connection that says something now and then.
fn old_connection(flood: &Flood) -> Result<()> {
    let mut stream = connect(V4, STREAM_ECHO)?;
    while flood.is_young() {
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).context("the old connection")?;
        ensure!(&answer == b"ping", "{answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One connection after the other.
fn new_connections(flood: &Flood) -> Result<()> {
    let mut count = 0;
    while flood.is_young() || count < 20 {
        ping().with_context(|| format!("new connection {count}"))?;
        count += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A running flood.
struct Flood {
    sent: Arc<AtomicU64>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(wire: Arc<Tap>, guest: Mac, frame: Frame) -> Self {
        let (sent, is_stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (sent.clone(), is_stopping.clone());
        let thread = std::thread::spawn(move || {
            let (start, mut random) = (Instant::now(), Random::new(0xf100d));
            while !stop.load(Ordering::Relaxed) {
                let due =
                    u64::try_from(start.elapsed().as_micros()).unwrap_or(0) * RATE / 1_000_000;
                while count.load(Ordering::Relaxed) < due {
                    // A wire on which nothing can be sent fails the case for want of frames.
                    if wire.send(&frame(&mut random, guest)).is_err() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { sent, is_stopping, thread: Some(thread) }
    }

    /// Whether there were not enough frames yet.
    fn is_young(&self) -> bool {
        self.sent.load(Ordering::Relaxed) < FRAMES_MIN
    }

    /// Ends it; tells how many frames there were.
    fn stop(mut self) -> u64 {
        self.end();
        self.sent.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but its count.
            drop(thread.join());
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

/// An address outside of the guest's network at which nobody is (RFC 2544).
fn nowhere(random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc612_0000 + (random.long() & 0x1_ffff))
}

/// A SYN from someone who will not answer, to a port that listens.
fn syn(random: &mut Random, guest: Mac) -> Vec<u8> {
    let source = nowhere(random);
    let segment = Peer::syn(random.word() | 1, STREAM_ECHO, random.long());
    let packet = Packet::new(source, GUEST, TCP, segment.bytes(source, GUEST));
    ethernet(guest, FLOODER, IPV4, &packet.bytes())
}

/// Bytes.
fn bytes(random: &mut Random, len_max: u64) -> Vec<u8> {
    let len = usize::try_from(random.below(len_max)).unwrap_or(0);
    std::iter::repeat_with(|| random.next().to_be_bytes()).flatten().take(len).collect()
}

/// Frames of every length and protocol, with anything in them.
fn garbage(random: &mut Random, guest: Mac) -> Vec<u8> {
    let protocol = [IPV4, ARP, 0x86dd, 0x8100, 0x0026, random.word()];
    let protocol = protocol[usize::try_from(random.below(6)).unwrap_or(0)];
    let to = if random.happens(200) { BROADCAST } else { guest };
    let mut payload = bytes(random, 600);
    if let [first, ..] = &mut payload[..]
        && protocol == IPV4
        && random.happens(500)
    {
        *first = 0x45;
    }
    // Claims of addresses that are used would be believed, as there is nothing else in ARP.
    if protocol == ARP {
        payload.truncate(27);
    }
    ethernet(to, FLOODER, protocol, &payload)
}

/// Packets with a right header around anything, pings, and datagrams to all ports.
fn nonsense_packet(random: &mut Random, guest: Mac) -> Vec<u8> {
    let source = nowhere(random);
    let payload = bytes(random, 400);
    let packet = match random.below(5) {
        0 => Packet::new(source, GUEST, UDP, datagram(random.word(), random.word(), &payload)),
        1 => Packet::new(source, GUEST, UDP, datagram(random.word(), ECHO, &payload)),
        2 => Packet::new(source, GUEST, ICMP, icmp(8, 0, [0, 1, 0, 1], &payload)),
        3 => {
            let [kind, code] = random.word().to_be_bytes();
            Packet::new(source, GUEST, ICMP, icmp(kind % 20, code % 16, [0; 4], &payload))
        }
        _ => Packet::new(source, GUEST, random.byte(), payload),
    };
    let packet = Packet { ttl: random.byte(), ..packet };
    ethernet(guest, FLOODER, IPV4, &packet.bytes())
}

/// Questions and claims of thousands of neighbours, some about addresses at which nobody can be.
fn arp(random: &mut Random, _: Mac) -> Vec<u8> {
    let [a, b, c, d, e, f, ..] = random.next().to_be_bytes();
    let operation = if random.happens(500) { ARP_REQUEST } else { ARP_REPLY };
    let sender = match random.below(10) {
        0 => nowhere(random),
        1 => Ipv4Addr::UNSPECIFIED,
        2 => Ipv4Addr::BROADCAST,
        _ => Ipv4Addr::new(10, 77, 0, 10 + random.byte() % 240),
    };
    let target = if random.happens(500) { GUEST } else { sender };
    let mac = if random.happens(20) { BROADCAST } else { [a & 0xfe, b, c, d, e, f] };
    let arp = Arp { operation, sender: (mac, sender), target: ([0; 6], target) };
    ethernet(BROADCAST, FLOODER, ARP, &arp.bytes())
}
