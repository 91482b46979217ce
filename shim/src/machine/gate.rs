//! The way between ring 3 and the shim: entering the guest, and its hypercalls.
//!
//! A slot of the hypercall page is `mov eax, number; syscall; ret`. The guest could execute `syscall` itself,
//! anywhere; such a call is told from a hypercall by where it returns to.
use super::segments::{Selectors, new_stack};
use crate::domain::{self, Domain};
use core::arch::{asm, naked_asm};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use paravane_abi::hypercall::{SLOT_SIZE, SLOTS_RESERVED};
use paravane_abi::layout::PAGE_SIZE;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;

/// The domain that runs, for those who come in from ring 3.
pub(super) static DOMAIN: AtomicPtr<Domain> = AtomicPtr::new(ptr::null_mut());

/// The stack on which hypercalls run, and where the guest's stack pointer is kept meanwhile.
static STACK: AtomicU64 = AtomicU64::new(0);
static GUEST_STACK: AtomicU64 = AtomicU64::new(0);

/// What a hypercall left on the stack, lowest address first.
#[derive(Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the processor's")]
pub struct Call {
    /// Number of the call.
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    /// Where the call returns to.
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
}

/// The code of the hypercall page.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "there are 16 slots, the page is small")]
pub fn hypercall_page() -> [u8; PAGE_SIZE as usize] {
    const INT3: u8 = 0xcc;
    let mut page = [INT3; PAGE_SIZE as usize];
    for (number, slot) in (0..SLOTS_RESERVED).zip(page.chunks_mut(SLOT_SIZE as usize)) {
        slot[..8].copy_from_slice(&[0xb8, number as u8, 0, 0, 0, 0x0f, 0x05, 0xc3]);
    }
    page
}

/// Whether a call that returns to this offset in the hypercall page came from one of its slots.
#[must_use]
pub fn is_hypercall(offset: u64) -> bool {
    const RETURN: u64 = 7;
    offset / SLOT_SIZE < SLOTS_RESERVED && offset % SLOT_SIZE == RETURN
}

/// Has `syscall` enter the shim, with interrupts off.
pub fn open(selectors: &Selectors) {
    STACK.store(new_stack().as_u64(), Ordering::Relaxed);
    let Selectors { kernel_code, kernel_data, user_data, user_code } = *selectors;
    // The selectors are in the order that the instruction wants.
    let _ = Star::write(user_code, user_data, kernel_code, kernel_data);
    LStar::write(VirtAddr::from_ptr(hypercall_entry as *const u8));
    let cleared = RFlags::INTERRUPT_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::ALIGNMENT_CHECK
        | RFlags::NESTED_TASK;
    SFMask::write(cleared);
}

/// Enters the guest at `rip` with stack pointer `rsp` and argument `rdi`, in the state that the contract
/// describes.
///
/// # Safety
/// Everything is ready: tables, interrupts and `syscall` registers.
pub unsafe fn enter(domain: &'static mut Domain, rip: u64, rsp: u64, rdi: u64) -> ! {
    /// Bit 1 is always set; interrupts are the shim's.
    const RFLAGS: u64 = 1 << 9 | 1 << 1;
    const USER_DATA: u64 = 0x1b;
    const USER_CODE: u64 = 0x23;
    const MXCSR: u32 = 0x1f80;
    DOMAIN.store(domain, Ordering::Release);
    // SAFETY: the caller's promise; the guest comes back only through the gates.
    unsafe {
        asm!(
            "fninit",
            "ldmxcsr [{mxcsr}]",
            "push {data}",
            "push {rsp}",
            "push {rflags}",
            "push {code}",
            "push {rip}",
            "xor eax, eax",
            "xor ebx, ebx",
            "xor ecx, ecx",
            "xor edx, edx",
            "xor esi, esi",
            "xor ebp, ebp",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "xor r10d, r10d",
            "xor r11d, r11d",
            "xor r12d, r12d",
            "xor r13d, r13d",
            "xor r14d, r14d",
            "xor r15d, r15d",
            "iretq",
            mxcsr = in(reg) &MXCSR,
            data = const USER_DATA,
            rsp = in(reg) rsp,
            rflags = const RFLAGS,
            code = const USER_CODE,
            rip = in(reg) rip,
            in("rdi") rdi,
            options(noreturn)
        )
    }
}

/// Where `syscall` leads. Caller-saved registers go back empty.
#[unsafe(naked)]
unsafe extern "C" fn hypercall_entry() {
    naked_asm!(
        "mov [rip + {guest_stack}], rsp",
        "mov rsp, [rip + {stack}]",
        "push [rip + {guest_stack}]",
        "push r11",
        "push rcx",
        "push r15",
        "push r14",
        "push r13",
        "push r12",
        "push rbp",
        "push rbx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rax",
        "mov rdi, [rip + {domain}]",
        "mov rsi, rsp",
        "xor ebp, ebp",
        // Thirteen words were pushed.
        "sub rsp, 8",
        "call {hypercall}",
        "add rsp, 40",
        "pop rbx",
        "pop rbp",
        "pop r12",
        "pop r13",
        "pop r14",
        "pop r15",
        "pop rcx",
        "pop r11",
        "pop rsp",
        "xor edx, edx",
        "xor esi, esi",
        "xor edi, edi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "sysretq",
        guest_stack = sym GUEST_STACK,
        stack = sym STACK,
        domain = sym DOMAIN,
        hypercall = sym domain::hypercall,
    )
}
