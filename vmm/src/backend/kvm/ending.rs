//! From what the vCPU stopped for to the report about the guest.
use super::fault::Fault;
use super::vcpu::{End, Vcpu};
use super::{cause, system};
use crate::domain::Domain;
use paravane_host::access::Access;
use paravane_host::ending::{Cause, Ending, Registers};
use vm_memory::{Bytes, GuestAddress};

/// The ending of a guest that cannot go on.
pub(super) fn ending(end: End, vcpu: &Vcpu, domain: &Domain) -> Ending {
    let cause = match end {
        End::Fault(fault) => return fault_ending(&fault, vcpu, domain),
        End::PortAccess(port) => {
            let text = format!("it executed a privileged instruction: I/O on port {port:#x}");
            Cause::Contract { text }
        }
        End::Dead(text) => Cause::Host { text: format!("the guest cannot go on: {text}") },
    };
    Ending::crash(cause, registers(vcpu))
}

/// The ending of a guest that raised an exception. In its stub, the registers are still the guest's,
/// but for those in the exception's frame.
fn fault_ending(fault: &Fault, vcpu: &Vcpu, domain: &Domain) -> Ending {
    let stub = registers(vcpu);
    // On software KVM a system call leaves RIP in RCX.
    let rip = if fault.rip == system::SYSCALL_TRAP { stub.rcx } else { fault.rip };
    let registers = Registers { rip, rsp: fault.rsp, rflags: fault.rflags, ..stub };
    let cr2 = vcpu.system_registers().map_or(0, |sregs| sregs.cr2);
    let code = read(domain, fault.rip);
    Ending::crash(cause::cause(fault, code, registers.rax, cr2), registers)
}

/// The registers at a hypercall, with the address it would return to as RIP: the hypercall page is of
/// no interest to a reader of the report. 0 if the guest's stack is no memory.
pub(super) fn at_hypercall(vcpu: &Vcpu, domain: &Domain) -> Registers {
    let registers = registers(vcpu);
    Registers { rip: read(domain, registers.rsp).map_or(0, u64::from_le_bytes), ..registers }
}

fn read<const LEN: usize>(domain: &Domain, address: u64) -> Option<[u8; LEN]> {
    let offset = domain.space().check(address, LEN as u64, Access::can_read)?;
    let mut bytes = [0; LEN];
    domain.ram().memory().read_slice(&mut bytes, GuestAddress(offset)).ok()?;
    Some(bytes)
}

/// The vCPU's registers.
pub(super) fn registers(vcpu: &Vcpu) -> Registers {
    let regs = vcpu.registers();
    Registers {
        rax: regs.rax,
        rbx: regs.rbx,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        rbp: regs.rbp,
        rsp: regs.rsp,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rip: regs.rip,
        rflags: regs.rflags,
        fs_base: vcpu.system_registers().map_or(0, |sregs| sregs.fs.base),
    }
}
