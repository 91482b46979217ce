//! The hypercalls.
//!
//! The host supplies a code page; call `n` is made by calling the address
//! `hypercall_page + SLOT_SIZE * n` with the System V calling convention: arguments in `rdi`, `rsi`,
//! `rdx`, result in `rax`. Callee-saved registers, the stack pointer, the FS and GS bases, MXCSR and
//! the x87 control word are kept; everything else is clobbered. A result of `-4095..=-1` is a negated
//! [`Error`].

/// Bytes of one slot of the hypercall page.
pub const SLOT_SIZE: u64 = 32;

/// Number of hypercalls, and of slots that a guest may call. Slots from here to
/// [`SLOTS_RESERVED`] fail with [`Error::InvalidCall`].
pub const CALL_COUNT: u64 = 8;

/// Slots that every host fills, known or not.
pub const SLOTS_RESERVED: u64 = 16;

/// Longest text of one `CONSOLE_WRITE` or `PANIC`, bytes; the host takes that much and returns how
/// much it took.
pub const TEXT_LEN_MAX: u64 = 4096;

/// Most bytes of one `ENTROPY`.
pub const ENTROPY_LEN_MAX: u64 = 256;

/// Bit of the event mask of `WAIT`: the operator asks the guest to end. Stays set from then on; only
/// its first appearance ends a `WAIT` before the deadline.
pub const EVENT_STOP: u64 = 1 << 63;

/// Deadline of `WAIT` that never comes.
pub const DEADLINE_NEVER: u64 = u64::MAX;

/// The hypercalls, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Hypercall {
    /// `(text: address, len) -> taken`: writes UTF-8 text to the console.
    ConsoleWrite = 0,
    /// `(status: u8)`: ends the domain; does not return.
    Exit = 1,
    /// `(text: address, len)`: ends the domain with a crash report that quotes the text and shows the
    /// caller's backtrace; does not return.
    Panic = 2,
    /// `(deadline_ns) -> events`: lets the devices work; returns at once if one of them has used
    /// buffers that the guest asked to be told of, or a stop was requested; else returns when that
    /// happens or when monotonic time reaches the deadline. Deadline 0 never blocks. Bit `i` of the
    /// result stands for device `i`.
    Wait = 3,
    /// `(device, queue)`: there are new buffers in the virtqueue.
    Notify = 4,
    /// `(attach: address, len)`: takes a device into use with the rings of a
    /// [`crate::device::Attach`]; once per device.
    Attach = 5,
    /// `(ram_offset, len)`: the pages are not needed; they read as zeroes when touched next. Whole
    /// pages outside the image and the guard pages only.
    Release = 6,
    /// `(buffer: address, len)`: fills the buffer with random bytes.
    Entropy = 7,
}

impl Hypercall {
    /// The call in slot `raw`.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::ConsoleWrite,
            1 => Self::Exit,
            2 => Self::Panic,
            3 => Self::Wait,
            4 => Self::Notify,
            5 => Self::Attach,
            6 => Self::Release,
            7 => Self::Entropy,
            _ => return None,
        })
    }
}

/// Why a hypercall failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// No such hypercall.
    InvalidCall = 1,
    /// An argument is out of its range.
    InvalidArgument = 2,
    /// An address is not in RAM, or not accessible as needed.
    BadAddress = 3,
    /// No such device or queue.
    NoDevice = 4,
    /// The device is attached already, or not yet.
    WrongState = 5,
}

impl Error {
    /// The `rax` that reports this error.
    #[must_use]
    pub const fn to_result(self) -> i64 {
        -(self as i64)
    }

    /// Splits `rax` into a value or an error. Unknown errors read as [`Error::InvalidCall`].
    ///
    /// # Errors
    /// The error that the host reports.
    pub const fn from_result(rax: i64) -> Result<u64, Self> {
        match rax {
            -2 => Err(Self::InvalidArgument),
            -3 => Err(Self::BadAddress),
            -4 => Err(Self::NoDevice),
            -5 => Err(Self::WrongState),
            -4095..=-1 => Err(Self::InvalidCall),
            _ => Ok(rax.cast_unsigned()),
        }
    }
}

const _: () = assert!(SLOT_SIZE * SLOTS_RESERVED <= crate::layout::PAGE_SIZE);
const _: () = assert!(CALL_COUNT <= SLOTS_RESERVED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_below_the_count_is_a_call() {
        for raw in 0..CALL_COUNT {
            assert_eq!(Hypercall::from_raw(raw).map(|c| c as u64), Some(raw));
        }
        assert_eq!(Hypercall::from_raw(CALL_COUNT), None);
    }

    #[test]
    fn results_and_errors_do_not_overlap() {
        for error in [
            Error::InvalidCall,
            Error::InvalidArgument,
            Error::BadAddress,
            Error::NoDevice,
            Error::WrongState,
        ] {
            assert_eq!(Error::from_result(error.to_result()), Err(error));
        }
        assert_eq!(Error::from_result(-4095), Err(Error::InvalidCall));
        assert_eq!(Error::from_result(EVENT_STOP.cast_signed()), Ok(EVENT_STOP));
        assert_eq!(Error::from_result(0), Ok(0));
    }
}
