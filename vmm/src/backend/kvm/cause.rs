//! What an exception says about the guest.
use super::fault::Fault;
use super::system;
use paravane_host::ending::Cause;

/// The cause for the report. `code` are the bytes at the fault, `rax` and `cr2` the vCPU's registers. On
/// software KVM, `syscall` arrives at an address that is not mapped.
pub(super) fn cause(fault: &Fault, code: Option<[u8; 2]>, rax: u64, cr2: u64) -> Cause {
    if fault.rip == system::SYSCALL_TRAP {
        return Cause::DirectSystemCall { number: rax };
    }
    Cause::of_exception(fault.vector, fault.error_code, code, rax, cr2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_software_kvm_takes_system_calls_is_told_from_other_addresses() {
        let check = |rip, expect| {
            let fault = Fault { vector: 14, error_code: 0x14, rip, rsp: 0, rflags: 0 };
            let is_call = cause(&fault, None, 60, rip) == Cause::DirectSystemCall { number: 60 };
            assert_eq!(is_call, expect, "{rip:#x}");
        };
        check(system::SYSCALL_TRAP, true);
        check(0x10, false);
    }
}
