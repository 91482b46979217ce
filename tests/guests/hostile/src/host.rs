//! Hypercalls without a kernel.
use core::arch::asm;
use paravane_abi::hypercall::{Hypercall, SLOT_SIZE};
use paravane_abi::layout::HYPERCALL_PAGE;

/// Calls slot `slot` with three arguments and returns `rax`.
pub(crate) fn raw(slot: u64, args: [u64; 3]) -> i64 {
    let target = HYPERCALL_PAGE + SLOT_SIZE * slot;
    let result: i64;
    // SAFETY: a hypercall keeps the callee-saved registers and the stack, and writes guest memory
    // only where its arguments say; callers pass such memory by address, which `asm!` without
    // `nomem` takes into account.
    unsafe {
        asm!("call {target}", target = in(reg) target,
             in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
             lateout("rax") result, clobber_abi("sysv64"));
    }
    result
}

pub(crate) fn call(call: Hypercall, args: [u64; 3]) -> i64 {
    raw(call as u64, args)
}

pub(crate) fn print(text: &str) {
    call(Hypercall::ConsoleWrite, [text.as_ptr() as u64, text.len() as u64, 0]);
}

pub(crate) fn exit(status: u8) -> ! {
    call(Hypercall::Exit, [u64::from(status), 0, 0]);
    unreachable("EXIT")
}

pub(crate) fn panic(text: &str) -> ! {
    call(Hypercall::Panic, [text.as_ptr() as u64, text.len() as u64, 0]);
    unreachable("PANIC")
}

fn unreachable(what: &str) -> ! {
    print(what);
    print(" returned\n");
    loop {
        core::hint::spin_loop();
    }
}

/// Ends the run if `condition` does not hold.
pub(crate) fn expect(condition: bool, what: &str) {
    if !condition {
        print("expectation failed: ");
        print(what);
        print("\n");
        exit(2);
    }
}
