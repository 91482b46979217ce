//! The C symbols that the precompiled std and C libraries link against, in terms of the kernel, and
//! the start-up code of images. How to make an image is told in `paravane-link`.
//!
//! `symbols.txt` lists what is provided; `scripts/symbols` holds the list against the code and the
//! images. What std can be asked for and a guest has not (files, sockets, processes, threads) fails with
//! `ENOSYS` or the error that C has for the case: nothing pretends to succeed.
//!
//! To std, all fibers are one thread: they share its `thread_local!` values and its `thread::park` token.
//! Locks and condition variables work between fibers; what parks the thread (`std::sync::mpsc`, scoped
//! threads) does not, and the kernel's tasks are to be used instead.
//!
//! The C names are exported except under `cfg(test)`, where they would take the place of the host's C
//! library. Tests call the functions by their paths.
#![no_std]
#![cfg_attr(test, allow(dead_code, non_snake_case, reason = "C names that only images export"))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bytes;
mod errno;
mod futex;
mod io;
mod math;
mod memory;
mod process;
mod random;
mod single;
#[cfg(not(test))]
mod start;
mod string;
mod thread;
mod time;
mod tls;
mod unsupported;
mod unwind;
mod vector;

#[doc(hidden)]
pub use paravane_abi as abi;
#[doc(hidden)]
pub use paravane_kernel as kernel;

/// Makes the program an image: gives it its manifest, the kernel's heap, and a panic hook that ends the
/// guest with a crash report. To be called once, at the top level of the program, with a
/// [`Manifest`](abi::manifest::Manifest).
#[macro_export]
macro_rules! image {
    ($manifest:expr) => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".note.paravane")]
            static MANIFEST: $crate::abi::manifest::ManifestNote =
                $crate::abi::manifest::ManifestNote::new($manifest);

            #[global_allocator]
            static HEAP: $crate::kernel::memory::Heap = $crate::kernel::memory::Heap;

            // Runs before std's own start-up code, so that no panic is missed.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static INSTALL_PANIC_HOOK: extern "C" fn() = install_panic_hook;

            extern "C" fn install_panic_hook() {
                let hook =
                    |info: &::std::panic::PanicHookInfo<'_>| $crate::kernel::panic::report(info);
                ::std::panic::set_hook(::std::boxed::Box::new(hook));
            }
        };
    };
}
