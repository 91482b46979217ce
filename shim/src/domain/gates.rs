//! Where ring 3 comes in: hypercalls, exceptions and the timer.
use super::Domain;
use super::hypercall::End;
use crate::machine::gate::{Call, is_hypercall};
use crate::machine::interrupts::{Frame, fault_address};
use crate::start::{end, say};
use paravane_abi::layout::HYPERCALL_PAGE;
use paravane_host::access::Access;
use paravane_host::ending::{Cause, Registers};
use paravane_host::status::Status;

/// A `syscall` of the guest's.
pub extern "C" fn hypercall(domain: &mut Domain, call: &Call) -> i64 {
    let offset = call.rip.wrapping_sub(HYPERCALL_PAGE);
    if !is_hypercall(offset) {
        let registers = Registers { rip: call.rip, ..at_hypercall(domain, call) };
        domain.crash(Cause::DirectSystemCall { number: call.rax }, registers);
    }
    let answer = domain.answer(call.rax, [call.rdi, call.rsi, call.rdx]);
    domain.clock.beat();
    domain.clock.watch(&domain.apic);
    match answer {
        Ok(result) => result.map_or_else(|error| error.to_result(), u64::cast_signed),
        Err(End::Exit(status)) => exit(status),
        Err(End::Crash(cause)) => domain.crash(cause, at_hypercall(domain, call)),
    }
}

/// The timer, while the guest ran.
pub extern "C" fn timer(domain: &mut Domain, frame: &Frame) {
    domain.clock.timer_came();
    if domain.clock.is_hung() {
        domain.crash(Cause::Hang, registers(frame));
    }
    domain.clock.watch(&domain.apic);
}

/// An exception: the guest's end, or the shim's own.
///
/// # Safety
/// `domain` is the domain that runs; it is not looked at if the shim was interrupted.
pub unsafe extern "C" fn exception(domain: *mut Domain, frame: &Frame) -> ! {
    let cr2 = fault_address();
    if !frame.is_guest() {
        let Frame { vector, error_code, rip, .. } = frame;
        crate::fail(format_args!(
            "exception {vector} (error code {error_code:#x}, CR2 {cr2:#x}) in the shim itself at {rip:#x}"
        ));
    }
    // SAFETY: the caller's promise; ring 3 was interrupted, so that nothing of the shim's uses the domain.
    let domain = unsafe { &mut *domain };
    let registers = registers(frame);
    let mut code = [0; 2];
    let offset = domain.space.check(frame.rip, 2, Access::can_read);
    let code = offset.filter(|&offset| domain.ram.read(offset, &mut code)).map(|_| code);
    let vector = u8::try_from(frame.vector).unwrap_or(u8::MAX);
    let cause = Cause::of_exception(vector, frame.error_code, code, frame.rax, cr2);
    domain.crash(cause, registers)
}

/// The guest ended itself. Statuses above those of guests have other meanings.
fn exit(status: u8) -> ! {
    let code = Status::of_guest(status).unwrap_or_else(|| {
        say(format_args!("the guest ended itself with status {status}"));
        Status::CRASHED
    });
    end(code)
}

/// The registers at a hypercall, with the address that it would return to as RIP: the hypercall page is of
/// no interest to a reader of the report. 0 if the guest's stack is no memory.
fn at_hypercall(domain: &Domain, call: &Call) -> Registers {
    let mut caller = [0; 8];
    let offset = domain.space.check(call.rsp, 8, Access::can_read);
    let is_read = offset.is_some_and(|offset| domain.ram.read(offset, &mut caller));
    Registers {
        rip: if is_read { u64::from_le_bytes(caller) } else { 0 },
        rax: call.rax,
        rdi: call.rdi,
        rsi: call.rsi,
        rdx: call.rdx,
        rbx: call.rbx,
        rbp: call.rbp,
        rsp: call.rsp,
        r12: call.r12,
        r13: call.r13,
        r14: call.r14,
        r15: call.r15,
        rflags: call.rflags,
        ..Registers::default()
    }
}

fn registers(frame: &Frame) -> Registers {
    Registers {
        rax: frame.rax,
        rbx: frame.rbx,
        rcx: frame.rcx,
        rdx: frame.rdx,
        rsi: frame.rsi,
        rdi: frame.rdi,
        rbp: frame.rbp,
        rsp: frame.rsp,
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rip: frame.rip,
        rflags: frame.rflags,
        fs_base: 0,
    }
}
