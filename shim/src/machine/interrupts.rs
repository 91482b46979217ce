//! Exceptions and interrupts.
//!
//! An interrupt only notes that it came: in [`PENDING`], for the `WAIT` of the guest's that asks. The
//! timer is all that ever does something while the guest runs: it looks whether the guest still makes
//! hypercalls. Everything comes in on stacks of the shim's, never on the guest's.
use super::apic::END_OF_INTERRUPT_REGISTER;
use super::gate::DOMAIN;
use super::segments::{DOUBLE_FAULT_STACK, FAULT_STACK};
use crate::domain;
use alloc::boxed::Box;
use core::arch::{global_asm, naked_asm};
use core::sync::atomic::{AtomicU32, Ordering};
use paravane_abi::device::DEVICES_MAX;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::{Entry, EntryOptions};
use x86_64::{PrivilegeLevel, VirtAddr};

/// Vectors of exceptions.
const EXCEPTIONS: usize = 32;

/// Vector of device 0's interrupt; the others follow.
pub const DEVICE_VECTOR: u8 = 32;
/// Vector of the serial line's.
pub const SERIAL_VECTOR: u8 = 48;
/// Vector of the local APIC's timer.
pub const TIMER_VECTOR: u8 = 49;
/// Vector of interrupts that went away before they came.
pub const SPURIOUS_VECTOR: u8 = 255;

/// Bit of the serial line in the pending set; devices have their own numbers' bits.
pub const SERIAL_PENDING: u32 = 1 << 16;
/// Bit of the timer.
pub const TIMER_PENDING: u32 = 1 << 17;

const _: () = assert!(DEVICES_MAX == 16);

/// Which interrupts came since they were last taken.
static PENDING: AtomicU32 = AtomicU32::new(0);

/// Takes the interrupts that came: a bit for each device, the serial line and the timer.
#[must_use]
pub fn take_pending() -> u32 {
    PENDING.swap(0, Ordering::Acquire)
}

/// Waits for an interrupt, unless one is pending; interrupts are off before and after.
pub fn wait_for_interrupt() {
    if PENDING.load(Ordering::Relaxed) == 0 {
        x86_64::instructions::interrupts::enable_and_hlt();
        x86_64::instructions::interrupts::disable();
    }
}

/// The address of the last page fault (CR2).
#[must_use]
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}

/// What an exception left on the stack, lowest address first.
#[derive(Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the processor's")]
pub struct Frame {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// Whether ring 3 was interrupted.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.cs & 3 == 3
    }
}

global_asm!(
    r#"
    # General registers, as `Frame` has them.
    .macro push_registers
    push    r15
    push    r14
    push    r13
    push    r12
    push    r11
    push    r10
    push    r9
    push    r8
    push    rbp
    push    rdi
    push    rsi
    push    rdx
    push    rcx
    push    rbx
    push    rax
    .endm

    # One stub of 16 bytes an exception: the processor pushes an error code for some of them, the stub a
    # zero for the others.
    .balign 16
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if (0x60227d00 >> vector) & 1 == 0
    push    0
    .endif
    push    vector
    jmp     exception_entry
    .set vector, vector + 1
    .endr

exception_entry:
    cld
    push_registers
    mov     rdi, [rip + {domain}]
    mov     rsi, rsp
    xor     ebp, ebp
    and     rsp, -16
    call    {exception}
    ud2

    # One stub of 32 bytes an interrupt: devices, serial line.
    .balign 32
interrupt_stubs:
    .set number, 0
    .rept 17
    .balign 32
    lock or dword ptr [rip + {pending}], 1 << number
    jmp     interrupt_end
    .set number, number + 1
    .endr

interrupt_end:
    push    rax
    mov     rax, [rip + {end_of_interrupt}]
    mov     dword ptr [rax], 0
    pop     rax
    iretq

    # The timer. In ring 0 it ended a wait; in ring 3 somebody looks after the guest, whose registers,
    # those of the SSE unit included, stay as they are.
timer_stub:
    test    byte ptr [rsp + 8], 3
    jnz     2f
    lock or dword ptr [rip + {pending}], 1 << 17
    jmp     interrupt_end
2:  cld
    push    0
    push    49
    push_registers
    mov     rax, [rip + {end_of_interrupt}]
    mov     dword ptr [rax], 0
    mov     rdi, [rip + {domain}]
    mov     rsi, rsp
    mov     rbx, rsp
    sub     rsp, 512
    and     rsp, -16
    fxsave64 [rsp]
    call    {timer}
    fxrstor64 [rsp]
    mov     rsp, rbx
    pop     rax
    pop     rbx
    pop     rcx
    pop     rdx
    pop     rsi
    pop     rdi
    pop     rbp
    pop     r8
    pop     r9
    pop     r10
    pop     r11
    pop     r12
    pop     r13
    pop     r14
    pop     r15
    add     rsp, 16
    iretq
    "#,
    domain = sym DOMAIN,
    pending = sym PENDING,
    end_of_interrupt = sym END_OF_INTERRUPT_REGISTER,
    exception = sym domain::exception,
    timer = sym domain::timer,
);

/// An interrupt that went away before it came wants no answer.
#[unsafe(naked)]
extern "C" fn spurious_stub() {
    naked_asm!("iretq")
}

unsafe extern "C" {
    static exception_stubs: u8;
    static interrupt_stubs: u8;
    static timer_stub: u8;
}

type Gates = [Entry<()>; 256];

/// Loads the interrupt table. Ring 3 can raise breakpoint and overflow traps itself, nothing else.
pub fn load() {
    let gates: &'static mut Gates = Box::leak(Box::new([const { Entry::missing() }; 256]));
    for (vector, gate) in gates.iter_mut().enumerate().take(EXCEPTIONS) {
        // NMI, double fault, machine check.
        let stack = if [2, 8, 18].contains(&vector) { DOUBLE_FAULT_STACK } else { FAULT_STACK };
        let is_trap = [3, 4].contains(&vector);
        let level = if is_trap { PrivilegeLevel::Ring3 } else { PrivilegeLevel::Ring0 };
        let stub = (&raw const exception_stubs).wrapping_add(16 * vector);
        set(gate, stub, stack).set_privilege_level(level);
    }
    for number in 0..=DEVICES_MAX {
        let stub = (&raw const interrupt_stubs).wrapping_add(32 * number);
        set(&mut gates[usize::from(DEVICE_VECTOR) + number], stub, FAULT_STACK);
    }
    set(&mut gates[usize::from(TIMER_VECTOR)], &raw const timer_stub, FAULT_STACK);
    set(&mut gates[usize::from(SPURIOUS_VECTOR)], spurious_stub as *const u8, FAULT_STACK);
    let limit = u16::try_from(size_of::<Gates>() - 1).unwrap_or(u16::MAX);
    let base = VirtAddr::from_ptr(gates);
    // SAFETY: a table that lives for ever, whose stubs keep to the processor's rules.
    unsafe { lidt(&DescriptorTablePointer { limit, base }) };
}

fn set(gate: &mut Entry<()>, stub: *const u8, stack: u16) -> &mut EntryOptions {
    // SAFETY: the stubs above are made for their vectors, and the task state has the stack.
    unsafe { gate.set_handler_addr(VirtAddr::from_ptr(stub)).set_stack_index(stack) }
}
