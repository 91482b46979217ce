//! Memory's throughput and latency.
use crate::Pass;
use crate::random::Random;

/// Far more than a cache holds.
const LEN: usize = 32 << 20;

/// Copies 32 MiB, `block_len` bytes at a time, with the `memcpy` of whichever C library is there.
pub(crate) fn prepare_copy(block_len: usize) -> Pass {
    let from = Random::new().bytes(LEN);
    let mut to = vec![0; LEN];
    Box::new(move || {
        for (to, from) in to.chunks_mut(block_len).zip(from.chunks(block_len)) {
            to.copy_from_slice(from);
        }
        to.iter().step_by(LEN / 64).map(|&byte| u64::from(byte)).sum()
    })
}

/// A cache line with the index of another one.
#[repr(align(64))]
struct Line {
    next: usize,
}

const LINES: usize = (64 << 20) / size_of::<Line>();

/// Follows one cycle through all the lines of 64 MiB, in random order: each read waits for the one before.
pub(crate) fn prepare_chase() -> Pass {
    let mut lines: Vec<Line> = (0..LINES).map(|next| Line { next }).collect();
    let mut random = Random::new();
    // Sattolo's algorithm: a random permutation that is a single cycle.
    for i in (1..LINES).rev() {
        let j = random.below(i);
        let next = lines[i].next;
        lines[i].next = lines[j].next;
        lines[j].next = next;
    }
    Box::new(move || {
        let mut at = 0;
        let mut sum = 0u64;
        for _ in 0..LINES {
            at = lines[at].next;
            sum = sum.wrapping_mul(31) ^ at as u64;
        }
        sum
    })
}
