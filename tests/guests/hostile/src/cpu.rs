//! Instructions that a guest must not get away with.
use crate::{
    Property,
    Then::{Dies, Either},
};
use core::arch::asm;
use paravane_abi::start_info::StartInfo;

/// A property that executes one piece of assembly.
macro_rules! executes {
    ($($name:literal $then:ident: $($code:literal),+;)+) => {
        &[$(($name, $then, |_: &StartInfo| {
            // SAFETY: none is needed: the instruction is to end the domain. Should it not, every
            // register it could have changed is declared lost.
            unsafe {
                asm!($($code),+, out("rax") _, out("rcx") _, out("rdx") _, out("r11") _,
                     inout("rsi") 0_u64 => _, inout("rdi") 0_u64 => _);
            }
        })),+]
    };
}

pub(crate) const PROPERTIES: &[Property] = executes! {
    "hlt" Dies: "hlt";
    "read-cr0" Dies: "mov rax, cr0";
    "read-cr3" Dies: "mov rax, cr3";
    "write-cr3" Dies: "xor eax, eax", "mov cr3, rax";
    "write-cr4" Dies: "xor eax, eax", "mov cr4, rax";
    "read-dr7" Dies: "mov rax, dr7";
    "clts" Dies: "clts";
    "lmsw" Dies: "xor eax, eax", "lmsw ax";
    "rdmsr" Dies: "mov ecx, 0xc0000080", "rdmsr";
    "wrmsr" Dies: "mov ecx, 0xc0000080", "xor eax, eax", "xor edx, edx", "wrmsr";
    "lgdt" Dies: "lgdt [rsp]";
    "lidt" Dies: "lidt [rsp]";
    "lldt" Dies: "xor eax, eax", "lldt ax";
    "ltr" Dies: "xor eax, eax", "ltr ax";
    "invlpg" Dies: "invlpg [rsp]";
    "invd" Dies: "invd";
    "wbinvd" Dies: "wbinvd";
    "swapgs" Dies: "swapgs";
    "xsetbv" Dies: "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv";
    "sysret" Dies: "sysretq";
    "cli" Either: "cli";
    "sti" Either: "sti";
    "in-port" Dies: "mov edx, 0x60", "in al, dx";
    "out-port" Dies: "mov edx, 0x80", "out dx, al";
    "out-report-port" Dies: "mov al, 7", "out 0xd0, al";
    "int-0x80" Dies: "mov eax, 20", "int 0x80";
    "int3" Dies: "int3";
    "ud2" Dies: "ud2";
    "syscall-getpid" Dies: "mov eax, 39", "syscall";
    "syscall-write" Dies: "mov eax, 1", "mov edi, 1", "mov rsi, rsp", "mov edx, 8", "syscall";
    "syscall-x32" Dies: "mov eax, 0x40000027", "syscall";
    "vmcall" Either: "vmcall";
    "vmmcall" Either: "vmmcall";
    "vmxon" Dies: "vmxon [rsp]";
    "vmrun" Dies: "xor eax, eax", "vmrun rax";
    "divide-by-zero" Dies: "xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx";
    "trap-flag" Dies: "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop";
    "sse-exception" Dies: "push 0x1f00", "ldmxcsr [rsp]", "pop rax", "xorps xmm0, xmm0", "divps xmm0, xmm0";
    "far-jump-kernel" Dies: "push 0x10", "lea rax, [rip]", "push rax", "retfq";
    "iret-kernel" Dies: "push 0x18", "push rsp", "push 0x2", "push 0x10", "lea rax, [rip]", "push rax", "iretq";
};
