//! A peer that says whatever a case wants, right or wrong, and looks at what the guest answers.
use super::lan::{GUEST, PEER};
use super::packet::{
    ACK, ARP, ARP_REPLY, ARP_REQUEST, Arp, BROADCAST, FIN, IPV4, Mac, Packet, RST, SYN, Segment,
    TCP, ethernet, mss, split_ethernet,
};
use super::services::STREAM_ECHO;
use super::tap::Tap;
use anyhow::{Context, Result, bail, ensure};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long an answer may take; a bound against hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to look for what must not come. What the guest says at once comes within a millisecond.
const SILENCE: Duration = Duration::from_millis(300);

/// Longest payload of a peer's own segments.
const PAYLOAD_LEN_MAX: usize = 1460;

/// Someone on the wire. Answers ARP requests for itself while it waits for other things.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    wire: &'a Tap,
    pub(super) mac: Mac,
    pub(super) address: Ipv4Addr,
    pub(super) guest_mac: Mac,
}

impl<'a> Peer<'a> {
    /// The peer that is the guest's gateway, knowing the guest's Ethernet address.
    pub(super) fn new(wire: &'a Tap) -> Result<Self> {
        Self::at(wire, PEER, [2, 0, 0, 0, 0, 1])
    }

    /// A peer of any addresses.
    pub(super) fn at(wire: &'a Tap, address: Ipv4Addr, mac: Mac) -> Result<Self> {
        let mut peer = Self { wire, mac, address, guest_mac: BROADCAST };
        let arp = Arp { operation: ARP_REQUEST, sender: (mac, address), target: ([0; 6], GUEST) };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            peer.wire.send(&ethernet(BROADCAST, mac, ARP, &arp.bytes()))?;
            // The bridge may have lost the first one.
            let retry = Instant::now() + Duration::from_millis(500);
            while let Some(frame) = peer.wire.receive(retry)? {
                let arp = split_ethernet(&frame).filter(|parts| parts.2 == ARP);
                let arp = arp.and_then(|parts| Arp::parse(parts.3));
                if let Some(arp) = arp
                    && (arp.operation, arp.sender.1) == (ARP_REPLY, GUEST)
                {
                    peer.guest_mac = arp.sender.0;
                    return Ok(peer);
                }
            }
        }
        bail!("the guest does not answer ARP requests")
    }

    /// The same peer with another Ethernet address, which the guest does not know yet.
    pub(super) fn moved_to(self, mac: Mac) -> Self {
        Self { mac, ..self }
    }

    /// Sends a frame as it is.
    pub(super) fn send_frame(&self, frame: &[u8]) -> Result<()> {
        self.wire.send(frame)
    }

    /// Sends a packet to the guest.
    pub(super) fn send_packet(&self, packet: &Packet) -> Result<()> {
        self.send_frame(&ethernet(self.guest_mac, self.mac, IPV4, &packet.bytes()))
    }

    /// A packet to the guest.
    pub(super) fn packet(&self, protocol: u8, payload: Vec<u8>) -> Packet {
        Packet::new(self.address, GUEST, protocol, payload)
    }

    /// Sends a segment to the guest.
    pub(super) fn send(&self, segment: &Segment) -> Result<()> {
        self.send_packet(&self.packet(TCP, segment.bytes(self.address, GUEST)))
    }

    /// The next packet for this peer until `deadline`.
    pub(super) fn next_packet(&self, deadline: Instant) -> Result<Option<Packet>> {
        while let Some(frame) = self.wire.receive(deadline)? {
            let (to, _, protocol, payload) = split_ethernet(&frame).context("a short frame")?;
            if protocol == ARP {
                self.answer_arp(payload)?;
            } else if protocol == IPV4 && to == self.mac {
                let packet = Packet::parse(payload)?;
                if packet.to == self.address {
                    return Ok(Some(packet));
                }
            }
        }
        Ok(None)
    }

    fn answer_arp(&self, payload: &[u8]) -> Result<()> {
        let asked = Arp::parse(payload).context("a short ARP packet")?;
        if asked.operation == ARP_REQUEST && asked.target.1 == self.address {
            let sender = (self.mac, self.address);
            let answer = Arp { operation: ARP_REPLY, sender, target: asked.sender };
            self.send_frame(&ethernet(asked.sender.0, self.mac, ARP, &answer.bytes()))?;
        }
        Ok(())
    }

    /// The next segment from `port` of the guest to `own_port` until `deadline`.
    fn next_segment(&self, own_port: u16, port: u16, until: Instant) -> Result<Option<Segment>> {
        while let Some(packet) = self.next_packet(until)? {
            if packet.protocol == TCP {
                let segment = Segment::parse(&packet)?;
                if (segment.to, segment.from) == (own_port, port) {
                    return Ok(Some(segment));
                }
            }
        }
        Ok(None)
    }

    /// A SYN to a port of the guest.
    pub(super) fn syn(own_port: u16, port: u16, seq: u32) -> Segment {
        let options = mss(1460);
        Segment {
            from: own_port,
            to: port,
            seq,
            flags: SYN,
            window: 65535,
            options,
            ..Segment::default()
        }
    }

    /// Opens a connection with an ordinary SYN.
    pub(super) fn connect(&'a self, own_port: u16, port: u16) -> Result<Talk<'a>> {
        self.connect_with(Self::syn(own_port, port, 1_000_000))
    }

    /// Opens a connection with this SYN.
    pub(super) fn connect_with(&'a self, syn: Segment) -> Result<Talk<'a>> {
        let mut talk = self.start(&syn)?;
        let answer = talk.expect("SYN and ACK", |s| s.has(SYN | ACK) && s.ack == talk.next)?;
        talk.take_syn(&answer);
        talk.acknowledge()?;
        Ok(talk)
    }

    /// Sends a SYN; what follows is the case's affair.
    pub(super) fn start(&'a self, syn: &Segment) -> Result<Talk<'a>> {
        self.send(syn)?;
        let (next, window) = (syn.seq.wrapping_add(1), syn.window);
        Ok(Talk {
            peer: self,
            own_port: syn.from,
            port: syn.to,
            next,
            expected: 0,
            window,
            shift: 0,
        })
    }
}

/// A connection as the peer sees it.
#[derive(Clone)]
pub(super) struct Talk<'a> {
    peer: &'a Peer<'a>,
    own_port: u16,
    port: u16,
    /// The number of the next byte that is sent.
    pub(super) next: u32,
    /// The number of the next byte that the guest has to send.
    pub(super) expected: u32,
    /// What the peer announces, as it is in its segments.
    pub(super) window: u16,
    /// By how much the guest's windows are shifted, if windows are scaled.
    pub(super) shift: u8,
}

impl<'a> Talk<'a> {
    /// The same connection, of a peer that has moved.
    pub(super) fn of(self, peer: &'a Peer<'a>) -> Self {
        Self { peer, ..self }
    }

    /// Takes the guest's first number.
    pub(super) fn take_syn(&mut self, answer: &Segment) {
        self.expected = answer.seq.wrapping_add(1);
        self.shift = answer.option(super::packet::WINDOW_SCALE).map_or(0, |shift| shift[0]);
    }

    /// An acknowledgement of what was heard so far, to be changed.
    pub(super) fn segment(&self) -> Segment {
        Segment {
            from: self.own_port,
            to: self.port,
            seq: self.next,
            ack: self.expected,
            flags: ACK,
            window: self.window,
            ..Segment::default()
        }
    }

    /// Data that start so many bytes behind what was sent so far.
    pub(super) fn data_at(&self, offset: u32, payload: &[u8]) -> Segment {
        let seq = self.next.wrapping_add(offset);
        Segment { seq, payload: payload.to_vec(), ..self.segment() }
    }

    pub(super) fn send(&self, segment: &Segment) -> Result<()> {
        self.peer.send(segment)
    }

    pub(super) fn acknowledge(&self) -> Result<()> {
        self.send(&self.segment())
    }

    /// Sends data in order, in one piece or several. It is for the case to know that there is room.
    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<()> {
        for payload in bytes.chunks(PAYLOAD_LEN_MAX) {
            self.send(&self.data_at(0, payload))?;
            self.next = self.next.wrapping_add(u32::try_from(payload.len())?);
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.send(&Segment { flags: FIN | ACK, ..self.segment() })?;
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// The next segment, if one comes.
    pub(super) fn next_segment(&self, deadline: Instant) -> Result<Option<Segment>> {
        self.peer.next_segment(self.own_port, self.port, deadline)
    }

    /// Waits for a segment with a property. Others may come first.
    pub(super) fn expect(&self, what: &str, is_it: impl Fn(&Segment) -> bool) -> Result<Segment> {
        let (deadline, mut others) = (Instant::now() + PATIENCE, Vec::new());
        while let Some(segment) = self.next_segment(deadline)? {
            if is_it(&segment) {
                return Ok(segment);
            }
            others.push(segment.shown());
        }
        bail!("{what} did not come; what did is {others:#?}, expected next is {}", self.expected)
    }

    /// Sends a segment again and again, as a peer does that hears nothing, until something comes.
    pub(super) fn insist(
        &self,
        segment: &Segment,
        what: &str,
        is_it: impl Fn(&Segment) -> bool,
    ) -> Result<Segment> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.send(segment)?;
            let pause = Instant::now() + SILENCE;
            while let Some(answer) = self.next_segment(pause)? {
                if is_it(&answer) {
                    return Ok(answer);
                }
                ensure!(!answer.has(RST), "a reset came instead of {what}");
            }
        }
        bail!("{what} never came for {}", segment.shown())
    }

    /// Sends something strange, to which the guest has to answer with what it has and expects. It need
    /// not do so each time (RFC 5961, 7).
    pub(super) fn challenge(&self, strange: &Segment) -> Result<()> {
        let is_it = |s: &Segment| s.flags & (ACK | RST | SYN) == ACK && s.ack == self.next;
        self.insist(strange, "a challenge ACK", is_it).map(drop)
    }

    /// Watches for a while that no segment with a property comes.
    pub(super) fn never(&self, what: &str, is_it: impl Fn(&Segment) -> bool) -> Result<()> {
        let deadline = Instant::now() + SILENCE;
        while let Some(segment) = self.next_segment(deadline)? {
            ensure!(!is_it(&segment), "{what} came: {}", segment.shown());
        }
        Ok(())
    }

    /// Takes data in order until it is so many bytes, and acknowledges each piece.
    pub(super) fn hear(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut heard = Vec::new();
        while heard.len() < len {
            let is_next =
                |s: &Segment| s.has(ACK) && s.seq == self.expected && !s.payload.is_empty();
            let what = format!("data after {} of {len} bytes", heard.len());
            let segment = self.expect(&what, is_next)?;
            self.expected = self.expected.wrapping_add(u32::try_from(segment.payload.len())?);
            heard.extend(segment.payload);
            if segment.flags & FIN != 0 {
                ensure!(heard.len() == len, "the end after {} of {len} bytes", heard.len());
                self.expected = self.expected.wrapping_add(1);
            }
            self.acknowledge()?;
        }
        ensure!(heard.len() == len, "{} bytes instead of {len}", heard.len());
        Ok(heard)
    }

    /// Takes data in order until the guest says that nothing more comes.
    pub(super) fn hear_to_end(&mut self) -> Result<Vec<u8>> {
        let mut heard = Vec::new();
        loop {
            let is_next = |s: &Segment| s.seq == self.expected && s.len() > 0;
            let what = format!("more data or the end after {} bytes", heard.len());
            let segment = self.expect(&what, is_next)?;
            ensure!(!segment.has(RST), "a reset after {} bytes", heard.len());
            self.expected = self.expected.wrapping_add(segment.len());
            let is_end = segment.has(FIN);
            heard.extend(segment.payload);
            self.acknowledge()?;
            if is_end {
                return Ok(heard);
            }
        }
    }

    /// With a service that echoes as it hears: the connection lives, and no byte is lost or too much.
    pub(super) fn is_alive(&mut self) -> Result<()> {
        ensure!(self.port == STREAM_ECHO, "this service does not echo at once");
        self.say(b"are you there?")?;
        let heard = self.hear(14)?;
        ensure!(heard == b"are you there?", "{}", String::from_utf8_lossy(&heard));
        Ok(())
    }

    /// The connection is no more: the guest knows nothing of it.
    pub(super) fn is_gone(&self) -> Result<()> {
        self.send(&self.data_at(0, b"are you there?"))?;
        self.expect("a reset", |s| s.has(RST)).map(drop)
    }
}

impl Segment {
    /// For messages: without the payload.
    pub(super) fn shown(&self) -> String {
        let Self { seq, ack, flags, window, options, payload, .. } = self;
        let len = payload.len();
        format!(
            "flags {flags:#04x} seq {seq} ack {ack} window {window} options {options:?} payload {len}"
        )
    }
}
