//! A wire with faults: passes frames between two interfaces, and loses, doubles, damages, delays and
//! reorders some of them as a seed says.
use super::packet::{ETHERNET_LEN, IPV4, IPV6};
use super::random::Random;
use super::tap::{Tap, wait};
use anyhow::{Result, anyhow};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is damaged, behind the Ethernet header: the checksum of Ethernet protects frames on a wire, so it
/// was in a router's memory, where that header is written anew. ARP has no checksum of its own at all, so
/// a damaged answer would be believed.
const DAMAGED: [[u8; 2]; 2] = [IPV4.to_be_bytes(), IPV6.to_be_bytes()];

/// How often the relay looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// What happens to frames, in each direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Impairment {
    /// Frames in a thousand that are lost, that come twice, and in which a bit is inverted.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) damaged: u64,
    /// Frames in a thousand that are not delayed, so that they overtake; and how many of those whose
    /// predecessor overtook do as it did.
    pub(super) overtaking: u64,
    pub(super) alike: u64,
    /// How long frames are under way, and how much more or less than that.
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// What passes, if that is limited.
    pub(super) bottleneck: Option<Bottleneck>,
    /// Longest IP packet that passes; longer ones are lost without a word.
    pub(super) packet_len_max: Option<usize>,
}

/// A slow line with a short queue before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bottleneck {
    pub(super) bytes_per_second: u32,
    /// Frames that wait for it; more are lost.
    pub(super) queue_len: usize,
}

/// What happened to frames, in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) seen: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) damaged: u64,
    pub(super) overtook: u64,
    /// Lost because the queue was full, or because they were too long.
    pub(super) overflowed: u64,
    pub(super) too_long: u64,
}

/// Looks at each frame that the guest sends, before anything happens to it.
pub(super) type Watcher = Box<dyn FnMut(&[u8]) + Send>;

/// A running relay.
pub(super) struct Relay {
    thread: Option<JoinHandle<Result<[Count; 2]>>>,
    is_stopping: Arc<AtomicBool>,
    watcher: Arc<Mutex<Option<Watcher>>>,
}

impl Relay {
    /// Relays between the guest's wire and the peer's.
    pub(super) fn start(guest: Arc<Tap>, peer: Tap, impairment: Impairment, seed: u64) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let watcher = Arc::new(Mutex::new(None));
        let lines = [Line::new(seed), Line::new(!seed)];
        let mut work =
            Work { taps: [guest, Arc::new(peer)], lines, impairment, watcher: watcher.clone() };
        let stop = is_stopping.clone();
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                work.round()?;
            }
            Ok(work.lines.map(|line| line.count))
        });
        Self { thread: Some(thread), is_stopping, watcher }
    }

    /// From now on, `watcher` sees what the guest sends.
    pub(super) fn watch(&self, watcher: Watcher) {
        *self.watcher.lock().expect("no panic") = Some(watcher);
    }

    /// Ends it; tells what happened to the frames of the guest, and to those of the peer.
    pub(super) fn stop(mut self) -> Result<[Count; 2]> {
        self.is_stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("it was stopped"))?;
        thread.join().map_err(|_| anyhow!("the relay panicked"))?
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The case has failed already.
            drop(thread.join());
        }
    }
}

/// The relay's thread: the interfaces of guest and peer, and the line from each to the other.
struct Work {
    taps: [Arc<Tap>; 2],
    lines: [Line; 2],
    impairment: Impairment,
    watcher: Arc<Mutex<Option<Watcher>>>,
}

impl Work {
    /// Takes what has come, and passes on what is due.
    fn round(&mut self) -> Result<()> {
        let due = self.lines.iter().filter_map(Line::next_due).min();
        let idle = due.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        let descriptors: [RawFd; 2] = [self.taps[0].descriptor(), self.taps[1].descriptor()];
        wait(descriptors, idle)?;
        for (index, line) in self.lines.iter_mut().enumerate() {
            while let Some(frame) = self.taps[index].try_receive()? {
                if index == 0
                    && let Some(watcher) = self.watcher.lock().expect("no panic").as_mut()
                {
                    watcher(&frame);
                }
                line.take(frame, &self.impairment);
                line.pass_due(&self.taps[1 - index])?;
            }
            line.pass_due(&self.taps[1 - index])?;
        }
        Ok(())
    }
}

/// One direction.
struct Line {
    random: Random,
    /// Frames under way: when they arrive, their number, and they themselves.
    under_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    next_number: u64,
    has_overtaken: bool,
    /// When the bottleneck has passed all that waits for it.
    is_free_at: Instant,
    count: Count,
}

impl Line {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            under_way: BinaryHeap::new(),
            next_number: 0,
            has_overtaken: false,
            is_free_at: Instant::now(),
            count: Count::default(),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes a frame, and decides what becomes of it.
    fn take(&mut self, mut frame: Vec<u8>, impairment: &Impairment) {
        self.count.seen += 1;
        if impairment.packet_len_max.is_some_and(|max| frame.len() > ETHERNET_LEN + max) {
            self.count.too_long += 1;
            return;
        }
        if self.random.happens(impairment.lost) {
            self.count.lost += 1;
            return;
        }
        let is_checked = frame.get(12..14).is_some_and(|kind| DAMAGED.iter().any(|d| d == kind));
        if is_checked && self.random.happens(impairment.damaged) {
            self.count.damaged += 1;
            let bits = (frame.len() - ETHERNET_LEN) as u64 * 8;
            let bit = usize::try_from(self.random.below(bits)).unwrap_or(0);
            frame[ETHERNET_LEN + bit / 8] ^= 1 << (bit % 8);
        }
        if self.random.happens(impairment.doubled) {
            self.count.doubled += 1;
            self.send_off(frame.clone(), impairment);
        }
        self.send_off(frame, impairment);
    }

    fn send_off(&mut self, frame: Vec<u8>, impairment: &Impairment) {
        let now = Instant::now();
        let Some(start) = self.pass_bottleneck(now, frame.len(), impairment) else {
            self.count.overflowed += 1;
            return;
        };
        let at = start + self.time_under_way(impairment);
        self.under_way.push(Reverse((at, self.next_number, frame)));
        self.next_number += 1;
    }

    /// When a frame has passed the bottleneck; `None` if its queue is full.
    fn pass_bottleneck(
        &mut self,
        now: Instant,
        len: usize,
        impairment: &Impairment,
    ) -> Option<Instant> {
        let Some(Bottleneck { bytes_per_second, queue_len }) = impairment.bottleneck else {
            return Some(now);
        };
        if self.under_way.len() >= queue_len {
            return None;
        }
        let time = Duration::from_secs(len as u64) / bytes_per_second;
        self.is_free_at = self.is_free_at.max(now) + time;
        Some(self.is_free_at)
    }

    fn time_under_way(&mut self, impairment: &Impairment) -> Duration {
        let does_as_before = self.has_overtaken && self.random.happens(impairment.alike);
        self.has_overtaken = does_as_before || self.random.happens(impairment.overtaking);
        if self.has_overtaken {
            self.count.overtook += 1;
            return Duration::ZERO;
        }
        let jitter = u64::try_from(impairment.jitter.as_micros()).unwrap_or(0);
        let more = Duration::from_micros(self.random.below(2 * jitter + 1));
        (impairment.delay + more).saturating_sub(impairment.jitter)
    }

    fn pass_due(&mut self, to: &Tap) -> Result<()> {
        let now = Instant::now();
        while self.next_due().is_some_and(|at| at <= now) {
            if let Some(Reverse((.., frame))) = self.under_way.pop() {
                to.send(&frame)?;
            }
        }
        Ok(())
    }
}
