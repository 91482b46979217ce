//! Hypercalls with arguments that make no sense: each is refused with an error, or ends the domain
//! with a report where the contract says so.
use crate::host::{call, expect, raw};
use crate::{
    Property,
    Then::{Dies, Lives},
};
use core::arch::asm;
use paravane_abi::hypercall::{CALL_COUNT, Error, Hypercall, SLOTS_RESERVED};
use paravane_abi::layout::{RAM_BASE, START_INFO};
use paravane_abi::start_info::StartInfo;

pub(crate) const PROPERTIES: &[Property] = &[
    ("call-unknown", Lives, unknown),
    ("call-console-bad-address", Lives, console),
    ("call-entropy-bad-address", Lives, entropy),
    ("call-entropy-into-text", Dies, |_| {
        let text = crate::main as *const () as u64;
        call(Hypercall::Entropy, [text, 64, 0]);
        // Refusing with an error is as good as ending the domain.
        crate::host::panic("entropy into text was refused");
    }),
    ("call-notify-no-device", Lives, |_| {
        expect(is(call(Hypercall::Notify, [99, 0, 0]), Error::NoDevice), "device 99");
        expect(is(call(Hypercall::Notify, [u64::MAX, 0, 0]), Error::NoDevice), "device -1");
    }),
    ("call-attach-garbage", Lives, attach),
    ("call-release-bad-range", Lives, release),
    ("call-release-own-image", Lives, |info| {
        let image = info.image_end - 4096;
        expect(call(Hypercall::Release, [image, 4096, 0]) < 0, "image");
        expect(call(Hypercall::Release, [info.stack_base, 4096, 0]) < 0, "guard page");
    }),
    ("call-panic-bad-address", Dies, |_| {
        call(Hypercall::Panic, [0x1234, 64, 0]);
    }),
    ("call-panic-not-utf8", Dies, |_| {
        let text = [0xff_u8, 0xfe, 0x1b, b'[', b'2', b'J', 0];
        call(Hypercall::Panic, [text.as_ptr() as u64, 7, 0]);
    }),
    ("call-wait-past", Lives, |_| {
        expect(call(Hypercall::Wait, [1, 0, 0]) >= 0, "a deadline in the past");
    }),
    ("call-flags", Lives, |_| flags()),
    ("call-mxcsr", Lives, |_| mxcsr()),
    ("exit-255", Dies, |_| {
        call(Hypercall::Exit, [u64::MAX, 0, 0]);
    }),
    ("loop", Dies, |_| {
        loop {
            core::hint::spin_loop();
        }
    }),
    ("loop-calls", Dies, |_| {
        // Not a hang: the guest calls. The test ends it from outside.
        loop {
            call(Hypercall::Wait, [0, 0, 0]);
        }
    }),
];

fn is(result: i64, error: Error) -> bool {
    result == error.to_result()
}

fn unknown(_: &StartInfo) {
    for slot in CALL_COUNT..SLOTS_RESERVED {
        expect(is(raw(slot, [0; 3]), Error::InvalidCall), "unknown call");
    }
}

/// Address ranges that do not lie in RAM altogether.
fn bad_ranges(info: &StartInfo) -> [(u64, u64); 7] {
    let end = RAM_BASE + info.ram_size;
    [
        (0, 1),
        (START_INFO, 16),
        (RAM_BASE - 1, 2),
        (end - 8, 9),
        (end, 1),
        (u64::MAX, 1),
        (0xffff_8000_0000_0000, 8),
    ]
}

fn console(info: &StartInfo) {
    for (address, len) in bad_ranges(info) {
        let result = call(Hypercall::ConsoleWrite, [address, len, 0]);
        expect(is(result, Error::BadAddress), "console");
    }
    let endless = call(Hypercall::ConsoleWrite, [RAM_BASE, u64::MAX, 0]);
    expect(endless < 0 || endless <= 4096, "endless console text");
}

fn entropy(info: &StartInfo) {
    for (address, len) in bad_ranges(info) {
        expect(call(Hypercall::Entropy, [address, len, 0]) < 0, "entropy");
    }
    expect(call(Hypercall::Entropy, [RAM_BASE, 257, 0]) < 0, "too much entropy");
}

fn attach(info: &StartInfo) {
    let bytes = [0xff_u8; 144];
    let address = bytes.as_ptr() as u64;
    for len in [0, 1, 143, 145, u64::MAX] {
        expect(call(Hypercall::Attach, [address, len, 0]) < 0, "attach of odd length");
    }
    expect(call(Hypercall::Attach, [address, 144, 0]) < 0, "attach of garbage");
    for (address, _) in bad_ranges(info) {
        expect(call(Hypercall::Attach, [address, 144, 0]) < 0, "attach from nowhere");
    }
}

fn release(info: &StartInfo) {
    for (offset, len) in [
        (1, 4096),
        (0, 1),
        (info.ram_size, 4096),
        (info.ram_size - 4096, 8192),
        (u64::MAX - 4095, 4096),
        (0, u64::MAX - 4095),
    ] {
        expect(call(Hypercall::Release, [offset, len, 0]) < 0, "release");
    }
}

/// The host runs with its own flags, whatever the guest left in them: direction, alignment check.
fn flags() {
    // SAFETY: the flags are put back before compiled code runs again; the call keeps the stack.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], 0x40400", "popfq",
             "call {wait}",
             "pushfq", "and qword ptr [rsp], ~0x40400", "popfq",
             wait = in(reg) wait_slot(), inout("rdi") 0_u64 => _, clobber_abi("sysv64"));
    }
    crate::host::print("flags survived\n");
}

fn mxcsr() {
    // SAFETY: MXCSR is put back to its default before compiled code uses SSE arithmetic.
    unsafe {
        asm!("push 0", "ldmxcsr [rsp]", "add rsp, 8",
             "call {wait}",
             "push 0x1f80", "ldmxcsr [rsp]", "add rsp, 8",
             wait = in(reg) wait_slot(), inout("rdi") 0_u64 => _, clobber_abi("sysv64"));
    }
}

fn wait_slot() -> u64 {
    use paravane_abi::hypercall::SLOT_SIZE;
    use paravane_abi::layout::HYPERCALL_PAGE;
    HYPERCALL_PAGE + SLOT_SIZE * Hypercall::Wait as u64
}
