//! SHA-256 of a MiB.
use crate::Pass;
use crate::random::Random;
use sha2::{Digest, Sha256};

pub(crate) fn prepare() -> Pass {
    let message = Random::new().bytes(1 << 20);
    Box::new(move || {
        let digest = Sha256::digest(&message);
        digest.iter().fold(0, |sum, &byte| sum << 1 ^ u64::from(byte))
    })
}
