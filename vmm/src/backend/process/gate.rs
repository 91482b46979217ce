//! The gate between host and guest in one process: entering the guest, its hypercalls, and leaving.
//!
//! Host and guest share a thread. Each has its own stack, FS base, MXCSR and x87 control word; the
//! gate swaps them. What the host keeps across a guest's run lies in [`GATE`]; the code here reaches
//! it by its address, since the FS base, and with it every thread-local, is the guest's until swapped.
use super::handle_hypercall;
use paravane_host::ending::Registers;
use std::arch::naked_asm;
use std::mem::offset_of;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The host's state while the guest runs. Written and read by one thread; atomic because it is
/// static, and read by fault handlers on that thread.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Gate {
    /// Stack pointer of `enter_guest`: hypercalls run below it.
    host_stack: AtomicU64,
    /// FS base of the host thread; 0 until the guest is entered for the first time.
    host_fs: AtomicU64,
    /// Where the guest starts.
    entry: AtomicU64,
    /// MXCSR and x87 control word that host code expects: their reset values.
    mxcsr: AtomicU32,
    x87: AtomicU32,
    /// 1 where AVX may be used.
    avx: AtomicU32,
    /// 1 while the host works on a hypercall of the guest.
    in_hypercall: AtomicU32,
    /// The run that the guest belongs to.
    pub(super) run: AtomicPtr<super::Run>,
}

pub(super) static GATE: Gate = Gate {
    host_stack: AtomicU64::new(0),
    host_fs: AtomicU64::new(0),
    entry: AtomicU64::new(0),
    mxcsr: AtomicU32::new(0x1f80),
    x87: AtomicU32::new(0x37f),
    avx: AtomicU32::new(0),
    in_hypercall: AtomicU32::new(0),
    run: AtomicPtr::new(std::ptr::null_mut()),
};

/// What a hypercall leaves on the host's stack: the state to go back to.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct GuestFrame {
    mxcsr: u32,
    x87: u32,
    reserved: u64,
    fs_base: u64,
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    /// Points at the return address, in guest memory.
    pub(super) rsp: u64,
}

// The trampoline keeps the stack aligned to 16 bytes at its call.
const _: () = assert!(size_of::<GuestFrame>() == 80);

impl GuestFrame {
    /// The guest's registers at its hypercall; `rip` is its return address.
    pub(super) fn registers(&self, rip: u64) -> Registers {
        Registers {
            rip,
            rsp: self.rsp,
            rbp: self.rbp,
            rbx: self.rbx,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            fs_base: self.fs_base,
            ..Registers::default()
        }
    }
}

/// What the host's handler tells the trampoline.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Reply {
    /// For the guest's `rax`.
    pub(super) result: i64,
    /// Not 0: the domain ended; leave the guest for good.
    pub(super) leave: u64,
}

impl Gate {
    /// Detects what the trampoline may use.
    pub(super) fn prepare(&self) {
        self.avx.store(u32::from(std::is_x86_feature_detected!("avx")), Ordering::Relaxed);
    }

    /// Whether the host works on a hypercall.
    pub(super) fn is_in_hypercall(&self) -> bool {
        self.in_hypercall.load(Ordering::Relaxed) != 0
    }

    /// The frame of the hypercall that the host works on, if it does.
    pub(super) fn hypercall_frame(&self) -> Option<GuestFrame> {
        if !self.is_in_hypercall() {
            return None;
        }
        let address = self.host_stack.load(Ordering::Relaxed) - size_of::<GuestFrame>() as u64;
        // SAFETY: while the flag is set, the trampoline's frame lies right below `host_stack`.
        Some(unsafe { std::ptr::read(address as *const GuestFrame) })
    }
}

/// Enters the guest at `entry` with stack pointer `stack` and `start_info` in `rdi`. Returns when a
/// hypercall's reply says so.
///
/// # Safety
/// The guest's memory is mapped as its domain describes, [`GATE`] points to its run, and the fault
/// handlers are installed. Called on one thread only.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter_guest(entry: u64, stack: u64, start_info: u64) {
    naked_asm!(
        "push rbp; push rbx; push r12; push r13",
        "push r14; push r15",
        "sub rsp, 8",
        "mov [rip + {gate} + {host_stack}], rsp",
        "rdfsbase rax",
        "mov [rip + {gate} + {host_fs}], rax",
        "mov [rip + {gate} + {entry}], rdi",
        "mov rsp, rsi",
        "mov rdi, rdx",
        "xor eax, eax",
        "wrfsbase rax",
        "xor ebx, ebx; xor ecx, ecx; xor edx, edx; xor esi, esi",
        "xor ebp, ebp; xor r8d, r8d; xor r9d, r9d; xor r10d, r10d",
        "xor r11d, r11d; xor r12d, r12d; xor r13d, r13d; xor r14d, r14d",
        "xor r15d, r15d",
        "ldmxcsr [rip + {gate} + {mxcsr}]",
        "fninit",
        "cld",
        "jmp [rip + {gate} + {entry}]",
        gate = sym GATE,
        host_stack = const offset_of!(Gate, host_stack),
        host_fs = const offset_of!(Gate, host_fs),
        entry = const offset_of!(Gate, entry),
        mxcsr = const offset_of!(Gate, mxcsr),
    )
}

/// Where the slots of the hypercall page jump to: call number in `eax`, arguments in `rdi`, `rsi`,
/// `rdx`, the guest's return address on its stack. The guest's stack is read, by the final `ret`, but
/// never written. Ends at [`gate_end`].
///
/// # Safety
/// Only for guests entered through [`enter_guest`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn hypercall_gate() {
    naked_asm!(
        "mov r11, rsp",
        "mov rsp, [rip + {gate} + {host_stack}]",
        "push r11; push rbp; push rbx; push r12",
        "push r13; push r14; push r15",
        "rdfsbase r11",
        "push r11",
        "sub rsp, 16",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov r11, [rip + {gate} + {host_fs}]",
        "wrfsbase r11",
        // Clears the direction, trap and alignment check flags, whatever the guest had set.
        "push 2",
        "popfq",
        "ldmxcsr [rip + {gate} + {mxcsr}]",
        "fldcw [rip + {gate} + {x87}]",
        "mov dword ptr [rip + {gate} + {in_hypercall}], 1",
        "mov rcx, rdx",
        "mov rdx, rsi",
        "mov rsi, rdi",
        "mov edi, eax",
        "mov r8, rsp",
        "call {handler}",
        "mov dword ptr [rip + {gate} + {in_hypercall}], 0",
        "test rdx, rdx",
        "jnz 3f",
        // Nothing of the host's stays in a register that the call may clobber.
        "test dword ptr [rip + {gate} + {avx}], 1",
        "jz 2f",
        "vzeroall",
        "jmp 4f",
        "2:",
        "xorps xmm0, xmm0; xorps xmm1, xmm1; xorps xmm2, xmm2; xorps xmm3, xmm3",
        "xorps xmm4, xmm4; xorps xmm5, xmm5; xorps xmm6, xmm6; xorps xmm7, xmm7",
        "xorps xmm8, xmm8; xorps xmm9, xmm9; xorps xmm10, xmm10; xorps xmm11, xmm11",
        "xorps xmm12, xmm12; xorps xmm13, xmm13; xorps xmm14, xmm14; xorps xmm15, xmm15",
        "4:",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 16",
        "pop r11",
        "wrfsbase r11",
        "pop r15; pop r14; pop r13; pop r12",
        "pop rbx; pop rbp; pop rsp",
        "xor ecx, ecx; xor edx, edx; xor esi, esi; xor edi, edi",
        "xor r8d, r8d; xor r9d, r9d; xor r10d, r10d; xor r11d, r11d",
        "ret",
        // The domain ended: return from `enter_guest`.
        "3:",
        "mov rsp, [rip + {gate} + {host_stack}]",
        "add rsp, 8",
        "pop r15; pop r14; pop r13; pop r12",
        "pop rbx; pop rbp",
        "ret",
        ".globl paravane_hypercall_gate_end",
        ".hidden paravane_hypercall_gate_end",
        "paravane_hypercall_gate_end:",
        "nop",
        gate = sym GATE,
        handler = sym handle_hypercall,
        host_stack = const offset_of!(Gate, host_stack),
        host_fs = const offset_of!(Gate, host_fs),
        mxcsr = const offset_of!(Gate, mxcsr),
        x87 = const offset_of!(Gate, x87),
        avx = const offset_of!(Gate, avx),
        in_hypercall = const offset_of!(Gate, in_hypercall),
    )
}

/// Where signals arrive: gives the host its FS base and flags back, then goes on in `handler` with the
/// kernel's arguments.
///
/// # Safety
/// Installed as a signal handler with `SA_SIGINFO` only.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn signal_gate() {
    naked_asm!(
        "mov rax, [rip + {gate} + {host_fs}]",
        "test rax, rax",
        "jz 2f",
        "wrfsbase rax",
        "2:",
        "push 2",
        "popfq",
        "jmp {handler}",
        gate = sym GATE,
        handler = sym super::signals::handle,
        host_fs = const offset_of!(Gate, host_fs),
    )
}

unsafe extern "C" {
    #[link_name = "paravane_hypercall_gate_end"]
    static GATE_END: u8;
}

/// Whether `rip` lies in the trampoline, where a fault is the guest's: its stack pointer was bad.
pub(super) fn is_gate(rip: u64) -> bool {
    let start = hypercall_gate as *const () as u64;
    let end = &raw const GATE_END as u64;
    (start..end).contains(&rip)
}
