//! The state in which the vCPU starts: 64-bit mode at CPL 3.
//!
//! One set-up for VT-x, AMD-V and software KVM; each oddity below is what one of them wants.
use super::{cpuid, descriptors, system};
use kvm_bindings::{
    Msrs, kvm_cpuid_entry2, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcrs,
};

/// PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;

const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;

/// LME, LMA, NXE. Without SCE, `syscall` is an undefined instruction, except on software KVM.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;

/// Bit 1 is always set; IF. The guest itself gets no interrupts: there are none. But Bochs' VT-x lets
/// the host's in only while the guest's flag allows them, and a guest that spins would run for ever.
const RFLAGS: u64 = 1 << 1 | 1 << 9;

const MSR_SYSENTER_EIP: u32 = 0x176;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;

const FCW_DEFAULT: u16 = 0x37f;
const MXCSR_DEFAULT: u32 = 0x1f80;

/// Who decides which ports CPL 3 may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortGuard {
    /// The I/O bitmap (IOPL 0): other ports, `cli` and `sti` raise #GP.
    Bitmap,
    /// Nobody (IOPL 3): other ports leave to the VMM, which ends the guest; `cli` and `sti` do nothing
    /// of consequence, as there are no interrupts.
    Open,
}

impl PortGuard {
    fn rflags(self) -> u64 {
        match self {
            Self::Bitmap => RFLAGS,
            Self::Open => RFLAGS | 3 << 12,
        }
    }
}

/// Control and segment registers for a vCPU with these features; `reset` are those of a new vCPU.
pub(super) fn system_registers(reset: kvm_sregs, features: &[kvm_cpuid_entry2]) -> kvm_sregs {
    let data = segment(descriptors::USER_DATA, 3, 3);
    let mut sregs = kvm_sregs {
        cs: kvm_segment { l: 1, db: 0, ..segment(descriptors::USER_CODE, 11, 3) },
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        tr: task(features),
        cr0: CR0,
        cr3: system::CR3,
        cr4: cr4(features),
        efer: EFER,
        ..reset
    };
    sregs.gdt.base = system::GDT;
    sregs.gdt.limit = descriptors::GDT_LIMIT;
    sregs.idt.base = system::IDT;
    sregs.idt.limit = descriptors::IDT_LIMIT;
    sregs
}

/// The task register. VT-x refuses to enter with a TSS that is not busy; QEMU's AMD-V does not find
/// the I/O bitmap of one that is, and AMD's own processors drop the busy bit.
fn task(features: &[kvm_cpuid_entry2]) -> kvm_segment {
    const AVAILABLE: u8 = 9;
    const BUSY: u8 = 11;
    kvm_segment {
        base: system::TSS,
        limit: u32::from(descriptors::TSS_LIMIT),
        selector: descriptors::TASK,
        type_: if cpuid::is_amd(features) { AVAILABLE } else { BUSY },
        present: 1,
        ..Default::default()
    }
}

fn segment(selector: u16, type_: u8, dpl: u8) -> kvm_segment {
    let limit = u32::MAX;
    kvm_segment { limit, selector, type_, present: 1, dpl, db: 1, s: 1, g: 1, ..Default::default() }
}

fn cr4(features: &[kvm_cpuid_entry2]) -> u64 {
    let bit = |set: bool, bit| if set { bit } else { 0 };
    CR4_PAE
        | CR4_OSFXSR
        | CR4_OSXMMEXCPT
        | CR4_FSGSBASE
        | bit(cpuid::has_umip(features), CR4_UMIP)
        | bit(cpuid::xcr0(features).is_some(), CR4_OSXSAVE)
}

/// XCR0, if the processor has one.
pub(super) fn extended_control(features: &[kvm_cpuid_entry2]) -> Option<kvm_xcrs> {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0].value = cpuid::xcr0(features)?;
    Some(xcrs)
}

/// Where system call instructions lead: software KVM jumps to LSTAR although SCE is clear.
pub(super) fn model_specific() -> Option<Msrs> {
    let trap = |index| kvm_msr_entry { index, data: system::SYSCALL_TRAP, ..Default::default() };
    Msrs::from_entries(&[MSR_LSTAR, MSR_CSTAR, MSR_SYSENTER_EIP].map(trap)).ok()
}

/// Floating-point control as the contract wants it at entry.
pub(super) fn floating_point() -> kvm_fpu {
    kvm_fpu { fcw: FCW_DEFAULT, mxcsr: MXCSR_DEFAULT, ..Default::default() }
}

/// General registers for running from `rip` on the stack `rsp`, with the argument `rdi`.
pub(super) fn registers(rip: u64, rsp: u64, rdi: u64, guard: PortGuard) -> kvm_regs {
    kvm_regs { rip, rsp, rdi, rflags: guard.rflags(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(vendor_ebx: u32, xsave: u32, umip: u32) -> Vec<kvm_cpuid_entry2> {
        let leaf = |function| kvm_cpuid_entry2 { function, ..Default::default() };
        vec![
            kvm_cpuid_entry2 {
                ebx: vendor_ebx,
                edx: u32::from_le_bytes(*b"enti"),
                ecx: u32::from_le_bytes(*b"cAMD"),
                ..leaf(0)
            },
            kvm_cpuid_entry2 { ecx: xsave << 26, ..leaf(1) },
            kvm_cpuid_entry2 { ecx: umip << 2, ..leaf(7) },
            kvm_cpuid_entry2 { eax: 0xe7, ..leaf(0xd) },
        ]
    }

    #[test]
    fn the_guest_starts_in_64_bit_mode_at_cpl_3() {
        let sregs = system_registers(kvm_sregs::default(), &features(0, 1, 1));
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.cs.dpl, sregs.ss.dpl), (1, 0, 3, 3));
        assert_eq!((sregs.cs.selector & 3, sregs.ss.selector & 3), (3, 3));
        assert_eq!(sregs.efer & 1, 0, "system calls are off");
        assert_eq!(sregs.tr.type_, 11);
    }

    #[test]
    fn the_task_is_available_on_amd() {
        let amd = features(u32::from_le_bytes(*b"Auth"), 1, 1);
        assert_eq!(system_registers(kvm_sregs::default(), &amd).tr.type_, 9);
    }

    #[test]
    fn system_call_instructions_lead_to_the_trap_where_they_lead_anywhere() {
        let registers = model_specific().expect("three entries");
        for index in [MSR_LSTAR, MSR_CSTAR, MSR_SYSENTER_EIP] {
            let found = registers.as_slice().iter().find(|entry| entry.index == index);
            assert_eq!(found.map(|entry| entry.data), Some(system::SYSCALL_TRAP), "{index:#x}");
        }
    }

    #[test]
    fn only_what_the_processor_has_is_switched_on() {
        let old = features(0, 0, 0);
        assert_eq!(cr4(&old) & (CR4_UMIP | CR4_OSXSAVE), 0);
        assert!(extended_control(&old).is_none());
        let new = features(0, 1, 1);
        assert_eq!(cr4(&new) & CR4_UMIP, CR4_UMIP);
        assert_eq!(extended_control(&new).map(|x| x.xcrs[0].value), Some(7));
    }
}
