//! System call filters: classic BPF over `struct seccomp_data` (Linux, `linux/seccomp.h`).
//!
//! Written by hand because the filter looks at the instruction pointer, which the libraries for
//! filters do not: a system call made by the guest's own code is trapped whatever its number.
use super::rules::{Rule, Test};
use libc::{sock_filter, sock_fprog};
use paravane_abi::layout::{RAM_BASE, RAM_SIZE_MAX, START_INFO};
use std::io;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const POINTER_HIGH: u32 = 12;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`).
const X86_64: u32 = 0xc000_003e;

/// High halves of the addresses that belong to guests: from the host pages to the end of RAM.
const GUEST_FIRST: u32 = (START_INFO >> 32) as u32;
const GUEST_END: u32 = ((RAM_BASE + RAM_SIZE_MAX) >> 32) as u32;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// A filter, compiled.
#[derive(Debug)]
pub(super) struct Filter(Vec<Instruction>);

/// One instruction of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u32,
    /// Instructions to skip.
    then: u8,
    otherwise: u8,
    operand: u32,
}

impl Filter {
    /// A filter that allows what `rules` allow. Everything else raises SIGSYS in the thread, for a
    /// report; with `guarded`, so does every system call made from a guest's addresses.
    pub(super) fn new(guarded: bool, rules: &[Rule]) -> Self {
        let mut filter = Self(Vec::new());
        if guarded {
            filter.push(LOAD, POINTER_HIGH);
            filter.branch(JUMP_IF_AT_LEAST, GUEST_FIRST, 0, 2);
            filter.branch(JUMP_IF_AT_LEAST, GUEST_END, 1, 0);
            filter.push(RETURN, libc::SECCOMP_RET_TRAP);
        }
        filter.push(LOAD, ARCHITECTURE);
        filter.branch(JUMP_IF_EQUAL, X86_64, 1, 0);
        filter.push(RETURN, libc::SECCOMP_RET_KILL_PROCESS);
        filter.push(LOAD, NUMBER);
        for rule in rules {
            filter.rule(rule);
        }
        filter.push(RETURN, libc::SECCOMP_RET_TRAP);
        filter
    }

    fn rule(&mut self, rule: &Rule) {
        let Some(test) = rule.test else {
            self.branch(JUMP_IF_EQUAL, rule.number, 0, 1);
            self.push(RETURN, libc::SECCOMP_RET_ALLOW);
            return;
        };
        // Other numbers skip the six instructions of the test.
        self.branch(JUMP_IF_EQUAL, rule.number, 0, 5);
        self.push(LOAD, ARGUMENTS + 8 * test.argument);
        self.push(AND, test.mask);
        self.branch(JUMP_IF_EQUAL, test.value, 0, 1);
        self.push(RETURN, libc::SECCOMP_RET_ALLOW);
        self.push(LOAD, NUMBER);
    }

    fn push(&mut self, code: u32, operand: u32) {
        self.branch(code, operand, 0, 0);
    }

    fn branch(&mut self, code: u32, operand: u32, then: u8, otherwise: u8) {
        self.0.push(Instruction { code, then, otherwise, operand });
    }

    /// Installs the filter for all threads of the process.
    pub(super) fn install(&self) -> io::Result<()> {
        let mut program: Vec<_> = self.0.iter().map(Instruction::raw).collect();
        let program = sock_fprog {
            len: u16::try_from(program.len()).map_err(io::Error::other)?,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the program and its instructions live across the call, which copies them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_TSYNC,
                &raw const program,
            )
        };
        match result {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            thread => Err(io::Error::other(format!("thread {thread} cannot be filtered"))),
        }
    }
}

impl Instruction {
    fn raw(&self) -> sock_filter {
        sock_filter {
            code: u16::try_from(self.code).unwrap_or(u16::MAX),
            jt: self.then,
            jf: self.otherwise,
            k: self.operand,
        }
    }
}

impl Test {
    /// The argument has none of the bits of `mask`.
    pub(super) const fn none_of(argument: u32, mask: u32) -> Self {
        Self { argument, mask, value: 0 }
    }

    /// The argument's low half is `value`.
    pub(super) const fn is(argument: u32, value: u32) -> Self {
        Self { argument, mask: u32::MAX, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says to a system call, by interpretation.
    fn verdict(filter: &Filter, pointer: u64, architecture: u32, number: u32, third: u64) -> u32 {
        let load = |offset| match offset {
            NUMBER => number,
            ARCHITECTURE => architecture,
            POINTER_HIGH => u32::try_from(pointer >> 32).unwrap(),
            32 => u32::try_from(third & 0xffff_ffff).unwrap(),
            _ => panic!("no such field"),
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, then, otherwise, operand } = filter.0[at];
            at += 1;
            let skip = |condition| usize::from(if condition { then } else { otherwise });
            match code {
                LOAD => accumulator = load(operand),
                AND => accumulator &= operand,
                JUMP_IF_EQUAL => at += skip(accumulator == operand),
                JUMP_IF_AT_LEAST => at += skip(accumulator >= operand),
                RETURN => return operand,
                _ => panic!("no such instruction"),
            }
        }
    }

    #[test]
    fn a_filter_decides_by_origin_architecture_number_and_argument() {
        let rules = [
            Rule { number: 1, test: None },
            Rule { number: 9, test: Some(Test::none_of(2, 4)) },
            Rule { number: 2, test: None },
        ];
        let filter = Filter::new(true, &rules);
        let host = 0x7fff_0000_0000;
        let check = |pointer, architecture, number, third, expect| {
            assert_eq!(verdict(&filter, pointer, architecture, number, third), expect);
        };
        check(host, X86_64, 1, 0, libc::SECCOMP_RET_ALLOW);
        check(host, X86_64, 2, 4, libc::SECCOMP_RET_ALLOW);
        check(host, X86_64, 3, 0, libc::SECCOMP_RET_TRAP);
        check(host, X86_64, 9, 3, libc::SECCOMP_RET_ALLOW);
        check(host, X86_64, 9, 7, libc::SECCOMP_RET_TRAP);
        check(host, 0x4000_0003, 1, 0, libc::SECCOMP_RET_KILL_PROCESS);
        check(0x5555_0000_0000, X86_64, 1, 0, libc::SECCOMP_RET_ALLOW);
        for guest in [START_INFO, RAM_BASE, RAM_BASE + RAM_SIZE_MAX - 1] {
            check(guest, X86_64, 1, 0, libc::SECCOMP_RET_TRAP);
            check(guest, 0x4000_0003, 1, 0, libc::SECCOMP_RET_TRAP);
        }
        check(RAM_BASE + RAM_SIZE_MAX, X86_64, 1, 0, libc::SECCOMP_RET_ALLOW);
    }
}
