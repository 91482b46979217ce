//! Instructions that a guest must not get away with.
use crate::{Property, Then::Dies};
use core::arch::asm;
use paravane_abi::start_info::StartInfo;

/// A property that executes one piece of assembly.
macro_rules! executes {
    ($($name:literal: $($code:literal),+;)+) => {
        &[$(($name, Dies, |_: &StartInfo| {
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
    "hlt": "hlt";
    "read-cr0": "mov rax, cr0";
    "read-cr3": "mov rax, cr3";
    "write-cr3": "xor eax, eax", "mov cr3, rax";
    "write-cr4": "xor eax, eax", "mov cr4, rax";
    "read-dr7": "mov rax, dr7";
    "clts": "clts";
    "lmsw": "xor eax, eax", "lmsw ax";
    "rdmsr": "mov ecx, 0xc0000080", "rdmsr";
    "wrmsr": "mov ecx, 0xc0000080", "xor eax, eax", "xor edx, edx", "wrmsr";
    "lgdt": "lgdt [rsp]";
    "lidt": "lidt [rsp]";
    "lldt": "xor eax, eax", "lldt ax";
    "ltr": "xor eax, eax", "ltr ax";
    "invlpg": "invlpg [rsp]";
    "invd": "invd";
    "wbinvd": "wbinvd";
    "swapgs": "swapgs";
    "xsetbv": "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv";
    "sysret": "sysretq";
    "in-port": "mov edx, 0x60", "in al, dx";
    "out-port": "mov edx, 0x80", "out dx, al";
    "out-report-port": "mov al, 7", "out 0x21, al";
    "int-0x80": "mov eax, 20", "int 0x80";
    "int3": "int3";
    "ud2": "ud2";
    "syscall-getpid": "mov eax, 39", "syscall";
    "syscall-write": "mov eax, 1", "mov edi, 1", "mov rsi, rsp", "mov edx, 8", "syscall";
    "syscall-x32": "mov eax, 0x40000027", "syscall";
    "vmcall": "vmcall";
    "vmmcall": "vmmcall";
    "vmxon": "vmxon [rsp]";
    "vmrun": "xor eax, eax", "vmrun rax";
    "divide-by-zero": "xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx";
    "trap-flag": "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop";
    "sse-exception": "push 0x1f00", "ldmxcsr [rsp]", "pop rax", "xorps xmm0, xmm0", "divps xmm0, xmm0";
    "far-jump-kernel": "push 0x10", "lea rax, [rip]", "push rax", "retfq";
    "iret-kernel": "push 0x18", "push rsp", "push 0x2", "push 0x10", "lea rax, [rip]", "push rax", "iretq";
};
