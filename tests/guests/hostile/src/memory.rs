//! Memory that a guest must not touch.
use crate::{
    Property, Then,
    Then::{Dies, Lives},
};
use core::arch::asm;
use core::ptr;
use paravane_abi::layout::{CONFIG, HYPERCALL_PAGE, IMAGE_BASE, RAM_BASE, START_INFO, TIME_PAGE};
use paravane_abi::start_info::StartInfo;

pub(crate) const PROPERTIES: &[Property] = &[
    ("read-null", Dies, |_| read(0)),
    ("read-low", Dies, |_| read(0x40_0000)),
    ("read-below-host-pages", Dies, |_| read(START_INFO - 8)),
    ("read-behind-time-page", Dies, |_| read(TIME_PAGE + 0x1000)),
    ("read-behind-config", Dies, |_| read(CONFIG + (1 << 20))),
    ("read-below-ram", Dies, |_| read(RAM_BASE - 8)),
    ("read-behind-ram", Dies, |info| read(RAM_BASE + info.ram_size)),
    ("read-non-canonical", Dies, |_| read(0x8000_0000_0000_0000)),
    ("read-kernel-half", Dies, |_| read(0xffff_8000_0000_0000)),
    ("read-kernel-text", Dies, |_| read(0xffff_ffff_8100_0000)),
    ("write-text", Dies, |_| write(main_address())),
    ("write-read-only-data", Dies, |_| write(READ_ONLY.as_ptr() as u64)),
    ("write-image-header", Dies, |_| write(IMAGE_BASE)),
    ("write-start-info", Dies, |_| write(START_INFO)),
    ("write-hypercall-page", Dies, |_| write(HYPERCALL_PAGE)),
    ("write-time-page", Dies, |_| write(TIME_PAGE)),
    ("execute-ram", Dies, execute_ram),
    ("execute-stack", Dies, |_| execute_stack()),
    ("execute-start-info", Dies, |_| jump(START_INFO)),
    ("jump-null", Dies, |_| jump(0)),
    ("jump-behind-ram", Dies, |info| jump(RAM_BASE + info.ram_size)),
    ("stack-overflow", Dies, |_| {
        overflow(0);
    }),
    ("guard-page-slot-1", Dies, |info| {
        write(RAM_BASE + info.stack_base + u64::from(info.stack_size));
    }),
    ("stack-pointer-lost", Dies, |_| lose_stack()),
    ("fs-base-lost-then-fault", Dies, |_| {
        lose_fs_base();
        read(0);
    }),
    ("fs-base-lost-then-call", Lives, |_| {
        lose_fs_base();
        crate::host::print("still here\n");
    }),
    ("write-all-free-ram", Then::Lives, write_all),
];

static READ_ONLY: [u8; 16] = *b"read-only data..";

fn main_address() -> u64 {
    crate::main as *const () as u64
}

fn read(address: u64) {
    // SAFETY: the read is to fault.
    unsafe { ptr::read_volatile(address as *const u64) };
}

fn write(address: u64) {
    // SAFETY: the write is to fault.
    unsafe { ptr::write_volatile(address as *mut u64, 0x4141_4141_4141_4141) };
}

fn jump(address: u64) {
    // SAFETY: the jump is to fault.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("sysv64")) };
}

fn execute_ram(info: &StartInfo) {
    const RET: u8 = 0xc3;
    let address = RAM_BASE + info.stack_end() + 0x1000;
    // SAFETY: free RAM behind the stacks, which nothing else uses in this guest.
    unsafe { ptr::write_volatile(address as *mut u8, RET) };
    jump(address);
}

fn execute_stack() {
    let code = [0xc3_u8; 16];
    jump(core::hint::black_box(&code).as_ptr() as u64);
}

#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 32]);
    if depth == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + frame[(depth % 32) as usize]
}

fn lose_stack() {
    // SAFETY: the push is to fault.
    unsafe { asm!("xor esp, esp", "push rax", options(noreturn)) };
}

fn lose_fs_base() {
    // SAFETY: this guest has no thread-local storage.
    unsafe { asm!("wrfsbase {}", in(reg) 0x4141_0000_u64) };
}

fn write_all(info: &StartInfo) {
    for offset in (info.stack_end()..info.ram_size).step_by(4096) {
        write(RAM_BASE + offset);
    }
}
