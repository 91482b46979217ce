//! What ties a domain process to its supervisor.
#![forbid(unsafe_code)]
use crate::black_box::BlackBox;
use std::os::fd::OwnedFd;

/// What a domain process shares with its supervisor.
#[derive(Debug)]
pub struct Ties {
    /// Signs of life, and the record of the end.
    pub black_box: &'static BlackBox,
    /// Readable once a stop is requested.
    pub stop: OwnedFd,
    /// A counter that wakes the supervisor up when the guest has run unwatched.
    pub doorbell: OwnedFd,
}

impl Ties {
    /// Runs `wait`, in which the guest waits for the host: it does not hang for that long.
    pub(super) fn idle<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.black_box.begin_idle();
        let result = wait();
        if self.black_box.end_idle() {
            // Fails only if the counter is full: then the supervisor has been rung for already.
            let _ = rustix::io::write(&self.doorbell, &1_u64.to_le_bytes());
        }
        result
    }
}
