//! A guest that breaks one rule per run: its first argument names the property, see [`PROPERTIES`].
//!
//! It is as small as a guest can be: the contract crate and nothing else. A property that the host is
//! to refuse with an error returns, and the guest ends with status 0; one that is to end the domain
//! does not come back, and if it does, the guest ends with status 1.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "every function is one property, named in its table")]

mod calls;
mod cpu;
mod host;
#[path = "../../../../shim/src/mem.rs"]
mod mem;
mod memory;
mod rings;

use core::arch::naked_asm;
use paravane_abi::device::DeviceKind;
use paravane_abi::manifest::{Manifest, ManifestDevice, ManifestNote};
use paravane_abi::start_info::StartInfo;

#[used]
#[unsafe(link_section = ".note.paravane")]
static MANIFEST: ManifestNote = ManifestNote::new(
    Manifest::new(
        "hostile",
        8 << 20,
        &[
            ManifestDevice { kind: DeviceKind::Block as u32, required: 0 },
            ManifestDevice { kind: DeviceKind::Net as u32, required: 0 },
        ],
    )
    .with_stacks(2, 64 << 10),
);

/// What is to become of the domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The property returns: the host answered with an error or shrugged.
    Lives,
    /// The property does not return.
    Dies,
    /// Either is right: it depends on the processor or on what the host itself runs on.
    Either,
}

/// One property: its name, what is to happen, and the deed.
type Property = (&'static str, Then, fn(&StartInfo));

const TABLES: [&[Property]; 4] =
    [cpu::PROPERTIES, memory::PROPERTIES, calls::PROPERTIES, rings::PROPERTIES];

/// Enters at the end of stack slot 0, as if called.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() {
    naked_asm!("xor ebp, ebp", "jmp {main}", main = sym main)
}

extern "C" fn main(info: &'static StartInfo) -> ! {
    let wanted = info.arguments().next().unwrap_or("");
    let mut all = TABLES.iter().copied().flatten();
    if let Some((_, then, deed)) = all.find(|(name, ..)| *name == wanted) {
        deed(info);
        match then {
            Then::Lives => host::print("survived, as it should\n"),
            Then::Dies => host::print("survived, as it should not\n"),
            Then::Either => host::print("survived, as it may\n"),
        }
        host::exit(u8::from(*then == Then::Dies));
    }
    for (name, then, _) in TABLES.iter().copied().flatten() {
        host::print(name);
        host::print(match then {
            Then::Lives => " lives\n",
            Then::Dies => " dies\n",
            Then::Either => " either\n",
        });
    }
    host::exit(0)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    host::panic(info.message().as_str().unwrap_or("hostile: panicked"))
}
