//! What happened, as a clause.
use super::text::Printable;
use crate::ending::Cause;
use crate::space::{AddressSpace, Role};
use core::fmt;
use paravane_abi::layout::{CONFIG, CONFIG_LEN_MAX, PAGE_SIZE, START_INFO, ram_offset};

/// Page fault (Intel SDM, 6.15), and the bits of its error code (4.7).
const PAGE_FAULT: u8 = 14;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

/// Shows a cause.
pub(super) struct Description<'a> {
    pub(super) cause: &'a Cause,
    pub(super) space: &'a AddressSpace,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Fault { vector: PAGE_FAULT, error_code, address } => {
                self.page_fault(f, *error_code, *address)
            }
            Cause::Fault { vector, .. } => write!(f, "{} (vector {vector})", exception(*vector)),
            Cause::DirectSystemCall { number } => {
                write!(f, "a direct system call (number {number}); guests call their host only")
            }
            Cause::Panic { text } => write!(f, "panic: {}", Indented(text)),
            Cause::Contract { text } | Cause::Host { text } => write!(f, "{}", Printable(text)),
            Cause::DeviceAddress { address } => {
                write!(f, "it gave a device an address that it may not use, {address:#x}: ")?;
                self.place(f, *address)
            }
            Cause::Hang => write!(f, "it hung: no hypercall for longer than --watchdog allows"),
        }
    }
}

impl Description<'_> {
    fn page_fault(&self, f: &mut fmt::Formatter<'_>, error_code: u64, address: u64) -> fmt::Result {
        let what = match error_code {
            code if code & FETCH != 0 => "jump to",
            code if code & WRITE != 0 => "write to",
            _ => "read of",
        };
        write!(f, "page fault, {what} {address:#x}: ")?;
        self.place(f, address)
    }

    fn place(&self, f: &mut fmt::Formatter<'_>, address: u64) -> fmt::Result {
        if address < PAGE_SIZE {
            return write!(f, "a null pointer");
        }
        if (START_INFO..CONFIG + CONFIG_LEN_MAX).contains(&address) {
            return write!(f, "a page of the host's");
        }
        if ram_offset(address, 1, self.space.ram_size()).is_none() {
            return write!(f, "not memory of the guest's");
        }
        match self.space.region(address).map(|region| region.role) {
            Some(Role::StackGuard { slot }) => {
                write!(f, "the guard page of stack {slot}: it overflowed")
            }
            Some(Role::Image) => write!(f, "a page of the image with other access rights"),
            None => write!(f, "RAM"),
        }
    }
}

/// Text that may have several lines, the later ones indented.
struct Indented<'a>(&'a str);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.lines().enumerate() {
            if number > 0 {
                write!(f, "\n    ")?;
            }
            write!(f, "{}", Printable(line))?;
        }
        Ok(())
    }
}

/// Name of an exception (Intel SDM, table 6-1).
fn exception(vector: u8) -> &'static str {
    match vector {
        0 => "division by zero or overflow of a division",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow trap",
        5 => "bound range exceeded",
        6 => "invalid instruction",
        7 => "device not available",
        8 => "double fault",
        11 => "segment not present",
        12 => "stack fault: address out of range",
        13 => "general protection fault: privileged instruction or address out of range",
        16 => "x87 floating-point error",
        17 => "unaligned access",
        18 => "machine check",
        19 => "SIMD floating-point error",
        21 => "control protection fault",
        _ => "processor exception",
    }
}
