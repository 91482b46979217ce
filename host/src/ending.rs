//! How a domain ends.
use crate::status::Status;
use alloc::string::String;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a domain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest called `EXIT`.
    Exit {
        /// The guest's status.
        status: u8,
    },
    /// The guest was ended.
    Crash(Crash),
}

/// What there is to know of a guest that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// What happened.
    pub cause: Cause,
    /// The guest's registers, as far as the backend can tell.
    pub registers: Registers,
}

/// What happened to a guest that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The processor raised an exception.
    Fault {
        /// The exception's vector (Intel SDM, 6.15).
        vector: u8,
        /// The exception's error code; 0 for those without.
        error_code: u64,
        /// CR2 for page faults, else 0.
        address: u64,
    },
    /// The guest tried to call the host's kernel, past the hypercall page.
    DirectSystemCall {
        /// Number of the system call, if the backend can tell.
        number: u64,
    },
    /// The guest called `PANIC`.
    Panic {
        /// What the guest says.
        text: String,
    },
    /// The guest broke the contract; a sentence.
    Contract {
        /// What it did.
        text: String,
    },
    /// A device was made to touch RAM that the guest may not use in that way.
    DeviceAddress {
        /// Virtual address.
        address: u64,
    },
    /// No hypercall for longer than the watchdog's patience.
    Hang,
    /// The VMM itself failed; a sentence.
    Host {
        /// What failed.
        text: String,
    },
}

/// General registers of the guest.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the processor's")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub fs_base: u64,
}

impl Ending {
    /// The guest was ended for `cause`, in the state `registers`.
    #[must_use]
    pub fn crash(cause: Cause, registers: Registers) -> Self {
        Self::Crash(Crash { cause, registers })
    }
}

/// Vectors of exceptions (Intel SDM, 6.15).
const INVALID_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// `syscall`, `sysenter`, `int $0x80`.
const SYSTEM_CALLS: [[u8; 2]; 3] = [[0x0f, 0x05], [0x0f, 0x34], [0xcd, 0x80]];

impl Cause {
    /// The exit status that follows.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Hang => Status::HUNG,
            Self::Host { .. } => Status::INTERNAL,
            _ => Status::CRASHED,
        }
    }

    /// What an exception of the processor's says: a fault, or a system call instruction where there is
    /// nobody to call. `code` are the bytes at the fault, `rax` and `cr2` the processor's registers.
    #[must_use]
    pub fn of_exception(
        vector: u8,
        error_code: u64,
        code: Option<[u8; 2]>,
        rax: u64,
        cr2: u64,
    ) -> Self {
        let may_be_call = [INVALID_OPCODE, GENERAL_PROTECTION].contains(&vector);
        if may_be_call && code.is_some_and(|code| SYSTEM_CALLS.contains(&code)) {
            return Self::DirectSystemCall { number: rax };
        }
        let address = if vector == PAGE_FAULT { cr2 } else { 0 };
        Self::Fault { vector, error_code, address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_into_a_kernel_is_told_from_other_faults() {
        let check = |vector, error_code, code, expect| {
            let cause = Cause::of_exception(vector, error_code, code, 60, 0x10);
            assert_eq!(cause == Cause::DirectSystemCall { number: 60 }, expect, "{cause:?}");
        };
        check(INVALID_OPCODE, 0, Some([0x0f, 0x05]), true);
        check(INVALID_OPCODE, 0, Some([0x0f, 0x34]), true);
        check(INVALID_OPCODE, 0, Some([0x0f, 0x0b]), false);
        check(INVALID_OPCODE, 0, None, false);
        check(GENERAL_PROTECTION, 0x402, Some([0xcd, 0x80]), true);
        check(GENERAL_PROTECTION, 0, Some([0x0f, 0x34]), true);
        check(GENERAL_PROTECTION, 0, Some([0xf4, 0x90]), false);
        check(PAGE_FAULT, 0x14, Some([0x0f, 0x05]), false);
    }

    #[test]
    fn only_a_page_fault_has_an_address() {
        let address = |vector| match Cause::of_exception(vector, 4, None, 0, 0x10) {
            Cause::Fault { vector: seen, error_code: 4, address } if seen == vector => address,
            other => panic!("{other:?}"),
        };
        assert_eq!(address(PAGE_FAULT), 0x10);
        assert_eq!(address(GENERAL_PROTECTION), 0);
    }
}
