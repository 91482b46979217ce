//! The shim's program: the entry point, and what a program without an operating system has to bring along.
#![no_std]
#![no_main]

mod boot;
mod heap;
mod mem;

use core::panic::PanicInfo;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    paravane_shim::fail(format_args!("{info}"))
}
