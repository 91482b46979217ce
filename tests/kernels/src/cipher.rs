//! AES-256-GCM of a MiB, in place.
use crate::Pass;
use crate::random::Random;
use aes_gcm::{AeadInOut, Aes256Gcm, Key, KeyInit, Nonce};

const LEN: usize = 1 << 20;

pub(crate) fn prepare() -> Pass {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from([0x5a; 32]));
    let mut random = Random::new();
    let clear = random.bytes(LEN);
    let mut text = vec![0; LEN];
    Box::new(move || {
        text.copy_from_slice(&clear);
        let tag = cipher.encrypt_inout_detached(
            &Nonce::from([7; 12]),
            b"associated data",
            text.as_mut_slice().into(),
        );
        let tag = tag.expect("a MiB is below GCM's limit");
        tag.iter().fold(0, |sum, &byte| sum << 1 ^ u64::from(byte))
    })
}
