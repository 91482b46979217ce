//! AES-256-GCM of a MiB.
use crate::Pass;
use crate::random::Random;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, Key, KeyInit, Nonce};

const LEN: usize = 1 << 20;

pub(crate) fn prepare() -> Pass {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from([0x5a; 32]));
    let clear = Random::new().bytes(LEN);
    let mut secret = vec![0; LEN];
    Box::new(move || {
        let text = InOutBuf::new(&clear, &mut secret).expect("both have a length");
        let tag = cipher.encrypt_inout_detached(&Nonce::from([7; 12]), b"associated data", text);
        let tag = tag.expect("a MiB is below GCM's limit");
        tag.iter().fold(0, |sum, &byte| sum << 1 ^ u64::from(byte))
    })
}
