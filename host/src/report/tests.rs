//! Reports as an operator sees them.
use super::*;
use crate::image::Image;
use crate::image::tests::ElfBuilder;
use paravane_abi::layout::{IMAGE_BASE, RAM_BASE};

fn space() -> AddressSpace {
    let elf = ElfBuilder::default().build();
    let image = Image::read(elf.as_slice()).unwrap();
    AddressSpace::new(&image, 4 << 20).unwrap()
}

fn report(cause: Cause, console: &[u8]) -> String {
    let registers = Registers { rip: IMAGE_BASE + 0x1000, r15: 0xf15, ..Registers::default() };
    let crash = Crash { cause, registers };
    let (space, frames) = (space(), [registers.rip, RAM_BASE]);
    let report = Report {
        name: "test",
        space: &space,
        symbols: &Symbols::new(b""),
        crash: &crash,
        frames: &frames,
        console,
        status: Status::CRASHED,
    };
    report.to_string()
}

fn first_line(cause: Cause) -> String {
    let text = report(cause, b"");
    text.lines().next().unwrap().strip_prefix("the guest test was ended: ").unwrap().into()
}

#[test]
fn a_report_has_all_parts() {
    let text = report(Cause::Panic { text: "lost\nall hope".to_owned() }, b"one\ntwo \x1b[2J\n");
    let expect = "\
the guest test was ended: panic: lost
    all hope
  registers:
       rip 0000100000201000    rsp 0000000000000000    rbp 0000000000000000
       rax 0000000000000000    rbx 0000000000000000    rcx 0000000000000000
       rdx 0000000000000000    rsi 0000000000000000    rdi 0000000000000000
        r8 0000000000000000     r9 0000000000000000    r10 0000000000000000
       r11 0000000000000000    r12 0000000000000000    r13 0000000000000000
       r14 0000000000000000    r15 0000000000000f15 rflags 0000000000000000
  backtrace:
     0: 0x0000100000201000
     1: 0x0000100000000000
  last console output:
    | one
    | two \\u{1b}[2J
  exit status 103";
    assert_eq!(text, expect);
}

#[test]
fn page_faults_say_where() {
    let space = space();
    let check = |error_code, address, expect: &str| {
        assert_eq!(first_line(Cause::Fault { vector: 14, error_code, address }), expect);
    };
    let guard = RAM_BASE + space.stack_base() + u64::from(space.stack_size());
    check(4, 8, "page fault, read of 0x8: a null pointer");
    check(6, 0x7000, "page fault, write to 0x7000: not memory of the guest's");
    check(0x14, 0x7000, "page fault, jump to 0x7000: not memory of the guest's");
    let overflow =
        format!("page fault, write to {guard:#x}: the guard page of stack 1: it overflowed");
    check(6, guard, &overflow);
    check(
        7,
        IMAGE_BASE,
        "page fault, write to 0x100000200000: a page of the image with other access rights",
    );
    check(7, 0x0fff_f000_0000, "page fault, write to 0xffff0000000: a page of the host's");
}

#[test]
fn other_causes_say_what() {
    let check = |cause, expect: &str| {
        let line = first_line(cause);
        assert!(line.contains(expect), "{line}");
    };
    check(Cause::Fault { vector: 6, error_code: 0, address: 0 }, "invalid instruction (vector 6)");
    check(Cause::Fault { vector: 77, error_code: 0, address: 0 }, "(vector 77)");
    check(Cause::DirectSystemCall { number: 39 }, "direct system call (number 39)");
    check(Cause::Contract { text: "bad ring".to_owned() }, "bad ring");
    check(Cause::DeviceAddress { address: RAM_BASE }, "it may not use, 0x100000000000");
    check(Cause::Hang, "hung");
}
