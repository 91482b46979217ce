//! `paravane run` with guests of a few instructions each, on the process backend.
use std::arch::naked_asm;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use tempfile::NamedTempFile;

#[path = "common/elf.rs"]
mod elf;
use elf::ElfBuilder;

/// Declares a guest: position-independent code, entered with the start info in `rdi`.
macro_rules! guest {
    ($name:ident, $($line:literal),+ $(,)?) => {
        fn $name() -> ElfBuilder {
            /// Never called: its length, then its instructions.
            #[unsafe(naked)]
            extern "C" fn code() {
                naked_asm!(".quad 99f - 98f", "98:", $($line,)+ "99:")
            }
            let start = code as *const u8;
            // SAFETY: the function is as written above.
            let code = unsafe {
                let len = usize::try_from(start.cast::<u64>().read_unaligned()).unwrap();
                std::slice::from_raw_parts(start.add(8), len)
            };
            ElfBuilder::with_code(code)
        }
    };
}

guest!(
    hello,
    "lea rdi, [rip + 2f]",
    "mov esi, 6",
    "movabs rax, 0x0ffff0001000",
    "call rax",
    "cmp rax, 6",
    "jne 1f",
    "mov edi, 7",
    "movabs rax, 0x0ffff0001020",
    "call rax",
    "1: ud2",
    "2: .ascii \"hello\\n\"",
);

fn run(guest: &ElfBuilder, flags: &[&str]) -> Output {
    let mut image = NamedTempFile::new().unwrap();
    image.write_all(&guest.build()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_paravane"));
    command.arg("run").arg(image.path()).args(["--backend", "process"]).args(flags);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_guest_writes_to_the_console_and_ends_with_its_status() {
    let output = run(&hello(), &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(7));
}
