//! Random bytes: a ChaCha20 generator with fast key erasure.
//!
//! The key comes from the seed in the start info. Each request makes one key stream, whose first 32
//! bytes are the next key and whose rest is the output: who learns the state later cannot compute
//! what was given out before (D. J. Bernstein, "Fast-key-erasure random-number generators", 2017).
//! Fresh bytes of the host are mixed in before anything is given out: at the first request, as the
//! seed stays readable in the start info, and whenever the host says that the guest was cloned or
//! restored, so that two copies of a guest never share their randomness.
mod chacha20;

use crate::hypercall;
use crate::state::kernel;
use chacha20::{BLOCK_LEN, KEY_LEN};
use core::cell::RefCell;
use paravane_abi::start_info::SEED_LEN;

const _: () = assert!(SEED_LEN == 2 * KEY_LEN);

/// Bytes given out with one key: with a block counter of 32 bits far below its limit.
const REQUEST_LEN_MAX: usize = 1 << 16;

#[derive(Debug)]
struct Generator {
    key: [u8; KEY_LEN],
    /// The generation of the guest that fresh bytes were last mixed in for.
    generation: Option<u32>,
}

impl Generator {
    /// Makes what was known of the key worthless to who does not know `fresh`, and the other way
    /// round: the next key is a function of both.
    fn mix(&mut self, fresh: &[u8; KEY_LEN]) {
        self.key.iter_mut().zip(fresh).for_each(|(key, fresh)| *key ^= fresh);
        self.fill_part(&mut []);
    }

    fn fill_part(&mut self, output: &mut [u8]) {
        let key = self.key;
        let first = chacha20::block(&key, 0);
        let (next_key, start) = first.split_at(KEY_LEN);
        self.key.copy_from_slice(next_key);
        let (head, tail) = output.split_at_mut(output.len().min(start.len()));
        head.copy_from_slice(&start[..head.len()]);
        for (part, counter) in tail.chunks_mut(BLOCK_LEN).zip(1..) {
            part.copy_from_slice(&chacha20::block(&key, counter)[..part.len()]);
        }
    }

    fn fill(&mut self, output: &mut [u8]) {
        output.chunks_mut(REQUEST_LEN_MAX).for_each(|part| self.fill_part(part));
    }
}

/// The guest's generator.
pub(crate) struct State(RefCell<Generator>);

impl State {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Generator { key: [0; KEY_LEN], generation: None }))
    }

    /// Keys the generator with both halves of the start info's seed.
    pub(crate) fn seed(&self, seed: &[u8; SEED_LEN]) {
        let mut generator = self.0.borrow_mut();
        let (halves, _) = seed.as_chunks();
        halves.iter().for_each(|half| generator.mix(half));
    }
}

/// Fills `output` with random bytes fit for cryptographic keys.
///
/// # Panics
/// If the host refuses fresh randomness: going on might repeat what another guest gave out.
pub fn fill(output: &mut [u8]) {
    let kernel = kernel();
    let mut generator = kernel.entropy.0.borrow_mut();
    let generation = Some(kernel.clock.generation());
    if generation != generator.generation {
        let mut fresh = [0; KEY_LEN];
        hypercall::entropy(&mut fresh).expect("the host gives randomness");
        generator.mix(&fresh);
        generator.generation = generation;
    }
    generator.fill(output);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn generator(seed: u8) -> Generator {
        Generator { key: [seed; KEY_LEN], generation: None }
    }

    #[test]
    fn the_key_is_erased_and_never_given_out() {
        let mut generator = generator(1);
        let mut output = [0; 200];
        generator.fill(&mut output);
        let stream: std::vec::Vec<u8> =
            (0..4).flat_map(|counter| chacha20::block(&[1; KEY_LEN], counter)).collect();
        assert_eq!(generator.key, stream[..KEY_LEN]);
        assert_eq!(output, stream[KEY_LEN..][..200]);
    }

    #[test]
    fn equal_states_diverge_after_mixing() {
        let (mut first, mut second) = (generator(1), generator(1));
        first.mix(&[2; KEY_LEN]);
        second.mix(&[3; KEY_LEN]);
        let (mut a, mut b) = ([0; 32], [0; 32]);
        first.fill(&mut a);
        second.fill(&mut b);
        assert_ne!(a, b);
    }

    #[test]
    fn long_requests_do_not_repeat() {
        let mut output = vec![0; 2 * REQUEST_LEN_MAX];
        generator(1).fill(&mut output);
        let (first, second) = output.split_at(REQUEST_LEN_MAX);
        assert_ne!(first, second);
        assert!(output[REQUEST_LEN_MAX..].iter().any(|&byte| byte != 0));
    }
}
