//! The shim's program: the entry point, and what a program without an operating system has to bring along.
#![no_std]
#![no_main]

mod boot;
mod mem;

use core::panic::PanicInfo;
use paravane_shim::heap::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    paravane_shim::fail(format_args!("{info}"))
}
