//! The entry of an image: from the host's jump to C's `main`, which is std's start-up code.
use crate::{process, tls};
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::ffi::{c_char, c_int};
use core::ptr::null;
use paravane_abi::manifest::ManifestNote;
use paravane_abi::start_info::StartInfo;

/// `char **argv` and `char **envp`.
type Strings = *const *const c_char;

/// Function of `.init_array`. Taking the arguments is glibc's custom; std fills `env::args` so.
type Initializer = extern "C" fn(c_int, Strings, Strings);

unsafe extern "C" {
    static __init_array_start: [Initializer; 0];
    static __init_array_end: [Initializer; 0];
    /// The note that `image!` makes, at the start of its section.
    static __manifest_note: ManifestNote;

    fn main(argc: c_int, argv: Strings, envp: Strings) -> c_int;
}

/// Entry point of images: the host jumps here with `rdi` = address of the start info. The zeroes that
/// the frame pointer and the stack hold end a backtrace.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start(start_info: *const StartInfo) -> ! {
    naked_asm!("xor ebp, ebp", "jmp {start}", start = sym start)
}

/// # Safety
/// Called once, first of all, with the address that the host passed.
unsafe extern "C" fn start(start_info: *const StartInfo) -> ! {
    // SAFETY: this is the start of everything, each is called once, in the order that they need; this
    // function, in Rust, has no canary.
    unsafe {
        tls::set_up();
        paravane_kernel::boot(start_info);
        tls::set_canary(random_canary());
    }
    let arguments = arguments();
    let argc = c_int::try_from(arguments.len() - 1).unwrap_or(c_int::MAX);
    let argv = arguments.leak().as_ptr();
    let environment = [null()].as_ptr();
    for initializer in initializers() {
        initializer(argc, argv, environment);
    }
    // SAFETY: `main` is C's main function, made by rustc, and gets what C passes it.
    process::exit(unsafe { main(argc, argv, environment) })
}

/// A canary whose first byte is zero, so that no string function writes past it unnoticed.
fn random_canary() -> u64 {
    let mut bytes = [0; 8];
    paravane_kernel::entropy::fill(&mut bytes[1..]);
    u64::from_le_bytes(bytes)
}

/// `argv`: the image's name, the arguments, and the null pointer at the end. They are never freed.
fn arguments() -> Vec<*const c_char> {
    // SAFETY: the linker script places the symbol at the note.
    let name = unsafe { &__manifest_note }.manifest().name();
    let strings = core::iter::once(name).chain(paravane_kernel::arguments());
    let pointers = strings.map(|s| CString::new(s).unwrap_or_default().into_raw().cast_const());
    pointers.chain(core::iter::once(null())).collect()
}

fn initializers() -> &'static [Initializer] {
    // SAFETY: the linker script places the two symbols at the ends of the table.
    unsafe {
        let first = (&raw const __init_array_start).cast::<Initializer>();
        let end = (&raw const __init_array_end).cast::<Initializer>();
        core::slice::from_raw_parts(first, end.offset_from_unsigned(first))
    }
}
