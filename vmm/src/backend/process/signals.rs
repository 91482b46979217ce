//! Faults of the guest arrive as signals of its process. None of the handlers returns: each records
//! what happened and ends the process.
use super::gate::{self, GATE};
use super::{is_guest, return_address};
use crate::backend::WATCHDOG_SIGNAL;
use libc::{c_int, greg_t, siginfo_t, ucontext_t};
use paravane_abi::layout::ram_offset;
use paravane_host::ending::{Cause, Ending, Registers};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::io;
use std::sync::atomic::Ordering;

/// Signals of the processor's exceptions, of the system call filter, and the watchdog's.
const SIGNALS: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    WATCHDOG_SIGNAL,
];

/// Bytes of the alternate stack: the record is built on it.
const STACK_LEN: usize = 128 << 10;

/// Page fault (Intel SDM, 6.15).
const PAGE_FAULT: u8 = 14;

/// Installs the handlers, on a stack of their own: the guest's may be anything.
pub(super) fn install() -> io::Result<()> {
    // Mapped, not allocated: pages that no handler touches cost nothing.
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses the address; nothing else is there.
    let pages = unsafe { mmap_anonymous(std::ptr::null_mut(), STACK_LEN, prot, flags)? };
    let stack = libc::stack_t { ss_sp: pages, ss_flags: 0, ss_size: STACK_LEN };
    // SAFETY: the stack is never unmapped: it outlives every handler.
    check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
    for signal in SIGNALS {
        // SAFETY: all-zero is a valid `sigaction`; the fields that matter are set below.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = gate::signal_gate as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `signal_gate` is a handler for SA_SIGINFO, and async-signal-safe up to the point
        // where the process ends.
        check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Records the end of the guest and ends the process.
pub(super) extern "C" fn handle(signal: c_int, info: &siginfo_t, context: &ucontext_t) -> ! {
    // SAFETY: `run` points to a live run while a guest is entered, or is null. The thread does
    // nothing else any more, so that shared references to the run and its domain are sound.
    let run = unsafe { GATE.run.load(Ordering::Acquire).as_ref() };
    if let Some(run) = run {
        // SAFETY: as above.
        let domain = unsafe { &*run.domain };
        let interrupted = Interrupted::new(context);
        let registers = interrupted.guest_registers(domain);
        let cause = interrupted.cause(signal, info, domain.space().ram_size());
        let frames = domain.backtrace(&registers);
        let ending = Ending::crash(cause, registers);
        domain.black_box().record(&ending, frames.as_slice());
    }
    // SAFETY: `_exit` is async-signal-safe.
    unsafe { libc::_exit(super::super::ENDED) }
}

/// The state in which a signal found the thread.
struct Interrupted {
    registers: Registers,
    vector: u8,
    error_code: u64,
    cr2: u64,
}

impl Interrupted {
    fn new(context: &ucontext_t) -> Self {
        let value = |index: c_int| -> u64 {
            let index = usize::try_from(index).unwrap_or(0);
            context.uc_mcontext.gregs.get(index).copied().map_or(0, greg_t::cast_unsigned)
        };
        let registers = Registers {
            rax: value(libc::REG_RAX),
            rbx: value(libc::REG_RBX),
            rcx: value(libc::REG_RCX),
            rdx: value(libc::REG_RDX),
            rsi: value(libc::REG_RSI),
            rdi: value(libc::REG_RDI),
            rbp: value(libc::REG_RBP),
            rsp: value(libc::REG_RSP),
            r8: value(libc::REG_R8),
            r9: value(libc::REG_R9),
            r10: value(libc::REG_R10),
            r11: value(libc::REG_R11),
            r12: value(libc::REG_R12),
            r13: value(libc::REG_R13),
            r14: value(libc::REG_R14),
            r15: value(libc::REG_R15),
            rip: value(libc::REG_RIP),
            rflags: value(libc::REG_EFL),
            fs_base: 0,
        };
        let vector = u8::try_from(value(libc::REG_TRAPNO)).unwrap_or(u8::MAX);
        Self { registers, vector, error_code: value(libc::REG_ERR), cr2: value(libc::REG_CR2) }
    }

    /// Whether the guest ran, or the gate on its behalf; wherever its instruction pointer was.
    fn in_guest(&self) -> bool {
        let rip = self.registers.rip;
        !GATE.is_in_hypercall() || is_guest(rip) || gate::is_gate(rip)
    }

    /// The guest's registers: those found, or those at its hypercall if the host was at work.
    fn guest_registers(&self, domain: &crate::domain::Domain) -> Registers {
        match GATE.hypercall_frame() {
            Some(frame) if !self.in_guest() => frame.registers(return_address(domain, &frame)),
            _ => self.registers,
        }
    }

    fn cause(&self, signal: c_int, info: &siginfo_t, ram_size: u64) -> Cause {
        match signal {
            WATCHDOG_SIGNAL => Cause::Hang,
            libc::SIGSYS if self.in_guest() => {
                Cause::DirectSystemCall { number: self.registers.rax }
            }
            libc::SIGSYS => {
                let text = format!("the VMM made a forbidden system call ({})", self.registers.rax);
                Cause::Host { text }
            }
            // Sent by somebody, not raised by an instruction: `kill` can do that, a guest cannot.
            _ if info.si_code <= 0 => {
                Cause::Host { text: format!("signal {signal} was sent to the domain process") }
            }
            _ if self.in_guest() => self.fault(),
            _ if ram_offset(self.cr2, 1, ram_size).is_some() => {
                Cause::DeviceAddress { address: self.cr2 }
            }
            _ => Cause::Host {
                text: format!("signal {signal} in the VMM at {:#x}", self.registers.rip),
            },
        }
    }

    fn fault(&self) -> Cause {
        let is_page_fault = self.vector == PAGE_FAULT;
        let address = if is_page_fault { self.cr2 } else { 0 };
        Cause::Fault { vector: self.vector, error_code: self.error_code, address }
    }
}
