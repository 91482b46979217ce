//! An end of the wire: a ring for each direction, the bells, and what else the ends tell each other.
use super::memory::SharedMemory;
use super::ring::{self, Consumer, Producer, Ring};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Where in the shared memory each thing is, bytes: the two rings, and words in cache lines of their
/// own.
const TO_GUEST: usize = 0;
const TO_NETWORK: usize = TO_GUEST + ring::MEMORY_LEN;
const GUEST_WANTS: usize = TO_NETWORK + ring::MEMORY_LEN;
const NETWORK_WANTS: usize = GUEST_WANTS + 64;
const GUEST_TAKES: usize = NETWORK_WANTS + 64;
const IS_CLOSED: usize = GUEST_TAKES + 4;
const MEMORY_LEN: usize = IS_CLOSED + 4;

/// What an end waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// Something to receive.
    pub messages: bool,
    /// Room for something to send.
    pub room: bool,
}

impl Wants {
    const MESSAGES: u32 = 1;
    const ROOM: u32 = 2;

    fn bits(self) -> u32 {
        bit(self.messages, Self::MESSAGES) | bit(self.room, Self::ROOM)
    }
}

/// What the guest's driver takes besides complete frames of the link's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Takes {
    /// TCP checksums that are not filled in (`VIRTIO_NET_F_GUEST_CSUM`).
    pub partial_checksums: bool,
    /// TCPv4 segments of up to 64 KiB (`VIRTIO_NET_F_GUEST_TSO4`).
    pub large_segments: bool,
}

impl Takes {
    const SAID: u32 = 1;
    const PARTIAL_CHECKSUMS: u32 = 2;
    const LARGE_SEGMENTS: u32 = 4;
}

/// One end of the wire.
#[derive(Debug)]
pub struct End {
    /// What the other end sends.
    pub incoming: Consumer,
    /// What the other end is to receive.
    pub outgoing: Producer,
    memory: SharedMemory,
    /// Where our wants are, and the other end's.
    wants: usize,
    peer_wants: usize,
    bell: OwnedFd,
    peer_bell: OwnedFd,
    /// An end of a pipe that carries nothing, but tells the network when the guest's end is closed
    /// everywhere.
    life_line: OwnedFd,
}

/// Makes a wire: the guest's end and the network's.
///
/// # Errors
/// The host has no memory or descriptors left.
pub fn pair() -> io::Result<(End, End)> {
    let memory = SharedMemory::new(MEMORY_LEN)?;
    let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let (guests_bell, networks_bell) = (bell()?, bell()?);
    let (networks_line, guests_line) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let ring = |start| Ring { memory: memory.clone(), start };
    let guests = End {
        incoming: Consumer::new(ring(TO_GUEST)),
        outgoing: Producer::new(ring(TO_NETWORK)),
        memory: memory.clone(),
        wants: GUEST_WANTS,
        peer_wants: NETWORK_WANTS,
        bell: guests_bell.try_clone()?,
        peer_bell: networks_bell.try_clone()?,
        life_line: guests_line,
    };
    let networks = End {
        incoming: Consumer::new(ring(TO_NETWORK)),
        outgoing: Producer::new(ring(TO_GUEST)),
        memory,
        wants: NETWORK_WANTS,
        peer_wants: GUEST_WANTS,
        bell: networks_bell,
        peer_bell: guests_bell,
        life_line: networks_line,
    };
    Ok((guests, networks))
}

impl End {
    /// The descriptor that becomes readable when the other end rings.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The network's end: the descriptor that hangs up once the guest's end is closed everywhere.
    #[must_use]
    pub fn life_line(&self) -> BorrowedFd<'_> {
        self.life_line.as_fd()
    }

    /// Every descriptor of this end.
    #[must_use]
    pub fn descriptors(&self) -> [RawFd; 3] {
        [&self.bell, &self.peer_bell, &self.life_line].map(AsRawFd::as_raw_fd)
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        self.memory.word(offset)
    }

    /// Prepares for sleep: from now on the other end rings for what is in `wants`. False if there is
    /// some of it already; then nobody rings.
    pub fn arm(&self, wants: Wants) -> bool {
        self.word(self.wants).store(wants.bits(), Ordering::Relaxed);
        // Our wants are seen by an other end that has not done yet what we look for below: it has such a
        // fence between the deed and the look at our wants.
        fence(Ordering::SeqCst);
        let is_there = (wants.messages && !self.incoming.is_empty())
            || (wants.room && self.outgoing.has_much_room());
        if is_there {
            self.disarm();
        }
        !is_there
    }

    /// We are awake: nobody needs to ring.
    pub fn disarm(&self) {
        self.word(self.wants).store(0, Ordering::Relaxed);
    }

    /// Wakes the other end up if it waits for what we have done. To be called after each batch.
    pub fn wake_peer(&self) {
        // See `arm`.
        fence(Ordering::SeqCst);
        let wants = self.word(self.peer_wants).load(Ordering::Relaxed);
        let is_wanted = (wants & Wants::MESSAGES != 0 && self.outgoing.has_unread())
            || (wants & Wants::ROOM != 0 && self.incoming.has_made_room());
        if is_wanted && self.word(self.peer_wants).swap(0, Ordering::Relaxed) != 0 {
            ring(&self.peer_bell);
        }
    }

    /// What the other end sleeps for.
    #[cfg(test)]
    pub(crate) fn peer_wants(&self) -> Wants {
        let bits = self.word(self.peer_wants).load(Ordering::Relaxed);
        Wants { messages: bits & Wants::MESSAGES != 0, room: bits & Wants::ROOM != 0 }
    }

    /// Makes our own bell readable.
    pub fn ring_own(&self) {
        ring(&self.bell);
    }

    /// Makes our own bell silent.
    pub fn silence(&self) {
        // It may have been silent, or hold a number that says nothing.
        let _ = read(&self.bell, &mut [0; 8]);
    }

    /// The guest's end: the driver is there, and this is what it takes. Nothing is sent to it before.
    pub fn attach(&self, takes: Takes) {
        let bits = Takes::SAID
            | bit(takes.partial_checksums, Takes::PARTIAL_CHECKSUMS)
            | bit(takes.large_segments, Takes::LARGE_SEGMENTS);
        self.word(GUEST_TAKES).store(bits, Ordering::Release);
        ring(&self.peer_bell);
    }

    /// The network's end: what the guest's driver takes, once it is there.
    #[must_use]
    pub fn guest_takes(&self) -> Option<Takes> {
        let bits = self.word(GUEST_TAKES).load(Ordering::Acquire);
        (bits & Takes::SAID != 0).then_some(Takes {
            partial_checksums: bits & Takes::PARTIAL_CHECKSUMS != 0,
            large_segments: bits & Takes::LARGE_SEGMENTS != 0,
        })
    }

    /// The network's end: nothing will be received or sent any more.
    pub fn close(&self) {
        self.word(IS_CLOSED).store(1, Ordering::Release);
        ring(&self.peer_bell);
    }

    /// Whether the network's end is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word(IS_CLOSED).load(Ordering::Acquire) != 0
    }
}

fn bit(is_set: bool, bit: u32) -> u32 {
    if is_set { bit } else { 0 }
}

fn ring(bell: &OwnedFd) {
    // Fails only if it rings already: the number in it is as large as can be.
    let _ = write(bell, &1_u64.to_le_bytes());
}
