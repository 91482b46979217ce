//! The memory that the supervisor shares with the domain process: signs of life while the guest runs,
//! and the record of its end.
//!
//! The supervisor trusts nothing in it. On the process backend a hostile guest can write here what it
//! likes; everything is a number or bytes without meaning beyond the report, read once.
use paravane_host::backtrace::FRAMES_MAX;
use paravane_host::ending::{Cause, Ending, Registers};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of console output that a report can quote.
const CONSOLE_LEN: usize = 4096;

/// Longest text in a record, bytes.
const TEXT_LEN: usize = 4096;

/// The shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct BlackBox {
    /// Counts hypercalls: the guest's heartbeat.
    heartbeat: AtomicU64,
    /// Not 0 while the guest waits for the host, in `WAIT` or for the console's reader.
    idle: AtomicU32,
    /// Not 0 while the supervisor does not look at the heartbeat, because the guest waits.
    unwatched: AtomicU32,
    /// Not 0 once the operator asked the guest to end.
    stop: AtomicU32,
    /// Not 0 once the guest was entered.
    started: AtomicU32,
    /// Not 0 once `record` is complete.
    recorded: AtomicU32,
    /// Bytes ever written to `console`, a ring.
    console_total: AtomicU64,
    console: [AtomicU8; CONSOLE_LEN],
    record: [AtomicU8; size_of::<Record>()],
}

/// The end of a domain, as bytes.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    kind: u64,
    /// Exit status, vector, or system call number.
    number: u64,
    error_code: u64,
    address: u64,
    registers: Registers,
    frames: [u64; FRAMES_MAX],
    frame_count: u64,
    text_len: u64,
    text: [u8; TEXT_LEN],
}

mod kind {
    pub(super) const EXIT: u64 = 1;
    pub(super) const FAULT: u64 = 2;
    pub(super) const DIRECT_SYSTEM_CALL: u64 = 3;
    pub(super) const PANIC: u64 = 4;
    pub(super) const CONTRACT: u64 = 5;
    pub(super) const DEVICE_ADDRESS: u64 = 6;
    pub(super) const HANG: u64 = 7;
    pub(super) const HOST: u64 = 8;
}

impl BlackBox {
    /// Maps a new, empty one, to be shared with processes forked later. It lives until the process
    /// ends.
    ///
    /// # Errors
    /// The host has no memory.
    pub fn map() -> io::Result<&'static Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address; nothing else is there.
        let address = unsafe {
            mmap_anonymous(std::ptr::null_mut(), size_of::<Self>(), prot, MapFlags::SHARED)?
        };
        // SAFETY: fresh zeroed memory of this size, aligned to pages, never unmapped; all fields are
        // atomics, for which zeroes and concurrent writers are fine.
        Ok(unsafe { &*address.cast::<Self>() })
    }

    /// The guest made a hypercall.
    pub fn beat(&self) {
        // One writer; the supervisor only looks whether the number moves.
        self.heartbeat
            .store(self.heartbeat.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The number of hypercalls so far.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }

    /// The guest waits for the host from here on.
    pub fn begin_idle(&self) {
        self.idle.store(1, Ordering::Relaxed);
    }

    /// The guest runs again. True if nobody watches it: the caller wakes the supervisor up.
    ///
    /// The two sides each store one flag and then load the other's (here and in
    /// [`stop_watching`](Self::stop_watching)). Sequentially consistent, so that one of them sees the
    /// other's store: a guest that runs is watched.
    #[must_use = "a guest that runs unwatched may hang for ever"]
    pub fn end_idle(&self) -> bool {
        self.idle.store(0, Ordering::SeqCst);
        self.unwatched.load(Ordering::SeqCst) != 0 && self.unwatched.swap(0, Ordering::SeqCst) != 0
    }

    /// Leaves the guest alone until [`end_idle`](Self::end_idle) asks for the supervisor. False if
    /// the guest does not wait: then it is to be watched on.
    #[must_use]
    pub fn stop_watching(&self) -> bool {
        self.unwatched.store(1, Ordering::SeqCst);
        let is_idle = self.idle.load(Ordering::SeqCst) != 0;
        if !is_idle {
            self.unwatched.store(0, Ordering::SeqCst);
        }
        is_idle
    }

    /// Whether the guest waits for the host.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) != 0
    }

    /// The guest is about to be entered.
    pub fn set_started(&self) {
        self.started.store(1, Ordering::Relaxed);
    }

    /// Whether the guest was entered.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed) != 0
    }

    /// Asks the guest to end.
    pub fn request_stop(&self) {
        self.stop.store(1, Ordering::Relaxed);
    }

    /// Whether the guest is to end.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Keeps the last of the guest's console output.
    pub fn keep_console(&self, bytes: &[u8]) {
        let total = self.console_total.load(Ordering::Relaxed);
        for (at, &byte) in (total..).zip(bytes) {
            self.console[ring_index(at)].store(byte, Ordering::Relaxed);
        }
        let len = u64::try_from(bytes.len()).unwrap_or(0);
        self.console_total.store(total.wrapping_add(len), Ordering::Relaxed);
    }

    /// The last of the guest's console output.
    #[must_use]
    pub fn console(&self) -> Vec<u8> {
        let total = self.console_total.load(Ordering::Relaxed);
        let start = total.saturating_sub(CONSOLE_LEN as u64);
        (start..total).map(|at| self.console[ring_index(at)].load(Ordering::Relaxed)).collect()
    }

    /// Records the end of the domain; `frames` are return addresses, innermost first. Only the
    /// first record counts. Safe to call in a signal handler: allocates nothing.
    pub fn record(&self, ending: &Ending, frames: &[u64]) {
        if self.recorded.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut record = Record::new_zeroed();
        record.fill(ending);
        let count = frames.len().min(FRAMES_MAX);
        record.frames[..count].copy_from_slice(&frames[..count]);
        record.frame_count = count as u64;
        for (slot, byte) in self.record.iter().zip(record.as_bytes()) {
            slot.store(*byte, Ordering::Relaxed);
        }
        // Release: whoever sees the flag sees the record.
        self.recorded.store(1, Ordering::Release);
    }

    /// The end of the domain and its return addresses, if it was recorded.
    #[must_use]
    pub fn recorded(&self) -> Option<(Ending, Vec<u64>)> {
        if self.recorded.load(Ordering::Acquire) == 0 {
            return None;
        }
        let bytes: Vec<u8> = self.record.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let record = Record::read_from_bytes(&bytes).ok()?;
        let count = usize::try_from(record.frame_count).unwrap_or(0).min(FRAMES_MAX);
        Some((record.ending()?, record.frames[..count].to_vec()))
    }
}

fn ring_index(at: u64) -> usize {
    usize::try_from(at % CONSOLE_LEN as u64).unwrap_or(0)
}

impl Record {
    fn fill(&mut self, ending: &Ending) {
        match ending {
            Ending::Exit { status } => {
                self.kind = kind::EXIT;
                self.number = u64::from(*status);
            }
            Ending::Crash(crash) => {
                self.registers = crash.registers;
                self.fill_cause(&crash.cause);
            }
        }
    }

    fn fill_cause(&mut self, cause: &Cause) {
        match cause {
            Cause::Fault { vector, error_code, address } => {
                self.kind = kind::FAULT;
                self.number = u64::from(*vector);
                self.error_code = *error_code;
                self.address = *address;
            }
            Cause::DirectSystemCall { number } => {
                self.kind = kind::DIRECT_SYSTEM_CALL;
                self.number = *number;
            }
            Cause::DeviceAddress { address } => {
                self.kind = kind::DEVICE_ADDRESS;
                self.address = *address;
            }
            Cause::Hang => self.kind = kind::HANG,
            Cause::Panic { text } => self.fill_text(kind::PANIC, text),
            Cause::Contract { text } => self.fill_text(kind::CONTRACT, text),
            Cause::Host { text } => self.fill_text(kind::HOST, text),
        }
    }

    fn fill_text(&mut self, kind: u64, text: &str) {
        let len = text.len().min(TEXT_LEN);
        self.kind = kind;
        self.text[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.text_len = len as u64;
    }

    fn ending(&self) -> Option<Ending> {
        let cause = match self.kind {
            kind::EXIT => {
                return Some(Ending::Exit { status: u8::try_from(self.number).ok()? });
            }
            kind::FAULT => Cause::Fault {
                vector: u8::try_from(self.number).ok()?,
                error_code: self.error_code,
                address: self.address,
            },
            kind::DIRECT_SYSTEM_CALL => Cause::DirectSystemCall { number: self.number },
            kind::PANIC => Cause::Panic { text: self.text() },
            kind::CONTRACT => Cause::Contract { text: self.text() },
            kind::DEVICE_ADDRESS => Cause::DeviceAddress { address: self.address },
            kind::HANG => Cause::Hang,
            kind::HOST => Cause::Host { text: self.text() },
            _ => return None,
        };
        Some(Ending::crash(cause, self.registers))
    }

    fn text(&self) -> String {
        let len = usize::try_from(self.text_len).unwrap_or(0).min(TEXT_LEN);
        String::from_utf8_lossy(&self.text[..len]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(cause: Cause) {
        let ending = Ending::crash(cause, Registers { rip: 7, ..Registers::default() });
        let black_box = BlackBox::map().unwrap();
        assert_eq!(black_box.recorded(), None);
        black_box.record(&ending, &[1, 2, 3]);
        assert_eq!(black_box.recorded(), Some((ending, vec![1, 2, 3])));
    }

    #[test]
    fn every_cause_survives_the_round_trip() {
        round_trip(Cause::Fault { vector: 14, error_code: 6, address: 0xdead });
        round_trip(Cause::DirectSystemCall { number: 39 });
        round_trip(Cause::Panic { text: "out of memory".into() });
        round_trip(Cause::Contract { text: "ring".into() });
        round_trip(Cause::DeviceAddress { address: 1 });
        round_trip(Cause::Hang);
        round_trip(Cause::Host { text: "no".into() });
    }

    #[test]
    fn whoever_stops_watching_is_woken_once() {
        let black_box = BlackBox::map().unwrap();
        assert!(!black_box.stop_watching(), "a guest that runs is watched");
        assert!(!black_box.end_idle(), "and nobody has to be woken");
        black_box.begin_idle();
        assert!(black_box.stop_watching());
        assert!(black_box.end_idle());
        black_box.begin_idle();
        assert!(!black_box.end_idle());
    }

    #[test]
    fn the_first_record_counts() {
        let black_box = BlackBox::map().unwrap();
        black_box.record(&Ending::Exit { status: 3 }, &[]);
        black_box.record(&Ending::Exit { status: 4 }, &[]);
        assert_eq!(black_box.recorded(), Some((Ending::Exit { status: 3 }, vec![])));
    }

    #[test]
    fn a_forged_record_is_no_ending_and_no_panic() {
        for filling in [0, 9, 0xff] {
            let black_box = BlackBox::map().unwrap();
            black_box.record.iter().for_each(|b| b.store(filling, Ordering::Relaxed));
            black_box.recorded.store(1, Ordering::Relaxed);
            assert_eq!(black_box.recorded(), None);
        }
    }

    #[test]
    fn the_console_keeps_the_end() {
        let black_box = BlackBox::map().unwrap();
        black_box.keep_console(b"hello ");
        black_box.keep_console(b"world");
        assert_eq!(black_box.console(), b"hello world");
        black_box.keep_console(&[b'x'; 5000]);
        assert_eq!(black_box.console(), vec![b'x'; CONSOLE_LEN]);
        black_box.console_total.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(black_box.console().len(), CONSOLE_LEN);
    }
}
