//! What an exception says about the guest.
use super::fault::Fault;
use super::system;
use paravane_host::ending::Cause;

const INVALID_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// `syscall`, `sysenter`, `int $0x80`.
const SYSTEM_CALLS: [[u8; 2]; 3] = [[0x0f, 0x05], [0x0f, 0x34], [0xcd, 0x80]];

/// Whether the guest executed a system call instruction. `code` are the bytes at the fault.
///
/// `syscall` and `sysenter` are undefined here, `int $0x80` has no gate; on software KVM, `syscall`
/// arrives at an address that is not mapped.
fn is_system_call(fault: &Fault, code: Option<[u8; 2]>) -> bool {
    match fault.vector {
        PAGE_FAULT => fault.rip == system::SYSCALL_TRAP,
        INVALID_OPCODE | GENERAL_PROTECTION => code.is_some_and(|c| SYSTEM_CALLS.contains(&c)),
        _ => false,
    }
}

/// The cause for the report: `number` is that of the system call, if it is one, `cr2` the processor's.
pub(super) fn cause(fault: &Fault, code: Option<[u8; 2]>, number: u64, cr2: u64) -> Cause {
    if is_system_call(fault, code) {
        return Cause::DirectSystemCall { number };
    }
    let address = if fault.vector == PAGE_FAULT { cr2 } else { 0 };
    Cause::Fault { vector: fault.vector, error_code: fault.error_code, address }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(vector: u8, error_code: u64, rip: u64) -> Fault {
        Fault { vector, error_code, rip, rsp: 0, rflags: 0 }
    }

    #[test]
    fn every_way_into_a_kernel_is_told_from_other_faults() {
        let check = |fault: Fault, code, expect| {
            let cause = cause(&fault, code, 60, 0x10);
            assert_eq!(cause == Cause::DirectSystemCall { number: 60 }, expect, "{fault:?}");
        };
        check(fault(INVALID_OPCODE, 0, 1), Some([0x0f, 0x05]), true);
        check(fault(INVALID_OPCODE, 0, 1), Some([0x0f, 0x34]), true);
        check(fault(INVALID_OPCODE, 0, 1), Some([0x0f, 0x0b]), false);
        check(fault(INVALID_OPCODE, 0, 1), None, false);
        check(fault(GENERAL_PROTECTION, 0x402, 1), Some([0xcd, 0x80]), true);
        check(fault(GENERAL_PROTECTION, 0, 1), Some([0x0f, 0x34]), true);
        check(fault(GENERAL_PROTECTION, 0, 1), Some([0xf4, 0x90]), false);
        check(fault(PAGE_FAULT, 0x14, system::SYSCALL_TRAP), None, true);
        check(fault(PAGE_FAULT, 0x14, 0x10), None, false);
    }

    #[test]
    fn only_a_page_fault_has_an_address() {
        let address = |vector| match cause(&fault(vector, 4, 1), None, 0, 0x10) {
            Cause::Fault { vector: seen, error_code: 4, address } if seen == vector => address,
            other => panic!("{other:?}"),
        };
        assert_eq!(address(PAGE_FAULT), 0x10);
        assert_eq!(address(GENERAL_PROTECTION), 0);
    }
}
