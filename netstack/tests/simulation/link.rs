//! A link with faults drawn from a seed.
use paravane_netstack::{FramePort, Instant, RxMeta, TxMeta};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What goes wrong, in per mille of the frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) corrupted: u64,
    pub(crate) delayed: u64,
}

/// Links on which everything happens, and nothing too often for a connection to live.
pub(crate) fn faults() -> impl Strategy<Value = Faults> {
    let perhaps = (0u64..60, 0u64..100, 0u64..60, 0u64..200);
    perhaps.prop_map(|(lost, duplicated, corrupted, delayed)| Faults {
        lost,
        duplicated,
        corrupted,
        delayed,
    })
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    pub(crate) frame: Vec<u8>,
    pub(crate) meta: RxMeta,
}

/// One direction of a link.
#[derive(Debug)]
pub(crate) struct Line {
    faults: Faults,
    random: u64,
    buffer: Vec<u8>,
    /// Frames by their time of arrival, µs, and order.
    flying: BTreeMap<(i64, u64), Flying>,
    sent: u64,
    pub(crate) now: Instant,
    /// Frames that may be on the line before it has no more room.
    pub(crate) capacity: usize,
    /// Time that a frame takes at least, µs.
    pub(crate) latency_us: i64,
    /// Longest IP packet that passes; longer ones are kept in `too_big`.
    pub(crate) path_mtu: usize,
    pub(crate) too_big: Vec<Vec<u8>>,
    /// So many long frames are lost next; or all after so many.
    pub(crate) lose_next: usize,
    pub(crate) lose_after: Option<usize>,
    /// Copies of all frames, for tests that look at them.
    pub(crate) record: Option<Vec<(Vec<u8>, TxMeta)>>,
}

impl Line {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            random: seed | 1,
            buffer: vec![0; 1 << 17],
            flying: BTreeMap::new(),
            sent: 0,
            now: Instant::ZERO,
            capacity: usize::MAX,
            latency_us: 100,
            path_mtu: usize::MAX,
            too_big: Vec::new(),
            lose_next: 0,
            lose_after: None,
            record: None,
        }
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.draw() % 1000 < per_mille
    }

    /// Puts a frame on the line, past the faults.
    pub(crate) fn inject(&mut self, frame: Vec<u8>, meta: RxMeta, delay_us: i64) {
        self.sent += 1;
        let at = self.now.total_micros() + self.latency_us + delay_us;
        self.flying.insert((at, self.sent), Flying { frame, meta });
    }

    fn send(&mut self, mut frame: Vec<u8>, meta: TxMeta) {
        if let Some(record) = &mut self.record {
            record.push((frame.clone(), meta));
        }
        // A device would cut what it is to cut.
        if meta.gso_size == 0 && frame.len().saturating_sub(14) > self.path_mtu {
            self.too_big.push(frame);
            return;
        }
        if self.chance(self.faults.lost) || self.is_doomed(&frame) {
            return;
        }
        if is_protected(&frame, meta) && self.chance(self.faults.corrupted) {
            let bit = 14 * 8 + self.draw() as usize % ((frame.len() - 14) * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        let meta = RxMeta { csum_valid: meta.needs_csum };
        let copies = 1 + usize::from(self.chance(self.faults.duplicated));
        for _ in 0..copies {
            let is_late = self.chance(self.faults.delayed);
            let delay = if is_late { (self.draw() % 5000) as i64 } else { 0 };
            self.inject(frame.clone(), meta, delay);
        }
    }

    fn is_doomed(&mut self, frame: &[u8]) -> bool {
        if self.lose_after == Some(0) {
            return true;
        }
        self.lose_after = self.lose_after.map(|left| left - 1);
        let is_lost = self.lose_next > 0 && frame.len() > 1000;
        self.lose_next -= usize::from(is_lost);
        is_lost
    }

    /// The next frame that has arrived.
    pub(crate) fn arrive(&mut self) -> Option<Flying> {
        let entry = self.flying.first_entry()?;
        (entry.key().0 <= self.now.total_micros()).then(|| entry.remove())
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.flying.keys().next().map(|(at, _)| Instant::from_micros(*at))
    }
}

/// Whether damage behind the Ethernet header would be noticed, or not matter: only IP packets have
/// checksums, and none that is still to be completed. The header's own check sequence is not part of
/// frames here.
fn is_protected(frame: &[u8], meta: TxMeta) -> bool {
    (frame[12..14] == [8, 0] || frame[12..14] == [0x86, 0xdd]) && !meta.needs_csum
}

impl FramePort for Line {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.flying.len() >= self.capacity {
            return None;
        }
        self.buffer[..len].fill(0xa5); // Nobody may rely on what a buffer holds.
        Some(&mut self.buffer[..len])
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let frame = self.buffer[..len].to_vec();
        self.send(frame, meta);
    }
}
