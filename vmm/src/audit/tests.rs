use super::{Functions, Kind, Report, sweep};

fn found(code: &[u8]) -> Vec<(u64, Kind)> {
    let mut report = Report::default();
    sweep::section(0x1000, code, &Functions::default(), &mut report);
    report.findings.iter().map(|f| (f.address, f.kind)).collect()
}

#[test]
fn each_kind_is_found() {
    let check = |code: &[u8], kind| assert_eq!(found(code), [(0x1000, kind)], "{code:x?}");
    check(&[0xf4], Kind::Privileged); // hlt
    check(&[0xfa], Kind::Privileged); // cli
    check(&[0xe6, 0x80], Kind::Privileged); // out 0x80, al
    check(&[0xec], Kind::Privileged); // in al, dx
    check(&[0x0f, 0x20, 0xd8], Kind::Privileged); // mov rax, cr3
    check(&[0x0f, 0x30], Kind::Privileged); // wrmsr
    check(&[0x0f, 0x01, 0xd1], Kind::Privileged); // xsetbv
    check(&[0x0f, 0x05], Kind::SystemCall); // syscall
    check(&[0x0f, 0x34], Kind::SystemCall); // sysenter
    check(&[0xcd, 0x80], Kind::SystemCall); // int 0x80
    check(&[0x0f, 0x01, 0xc1], Kind::HypervisorCall); // vmcall
}

#[test]
fn ordinary_code_is_clean() {
    // push rbp; mov rbp, rsp; rdtsc; wrfsbase rax; ud2; lea with 0f 05 in its displacement; ret
    let code: &[u8] = &[
        0x55, 0x48, 0x89, 0xe5, 0x0f, 0x31, 0xf3, 0x48, 0x0f, 0xae, 0xd0, 0x0f, 0x0b, 0x48, 0x8d,
        0x05, 0x0f, 0x05, 0x00, 0x00, 0xc3,
    ];
    assert_eq!(found(code), []);
}

#[test]
fn a_function_start_realigns_the_sweep() {
    // Two bytes of padding that would swallow the hlt at 0x1002.
    let code: &[u8] = &[0x48, 0xb8, 0xf4, 0xc3];
    assert_eq!(found(code), []);
    let functions = Functions(vec![(0x1002, "f".into())]);
    let mut report = Report::default();
    sweep::section(0x1000, code, &functions, &mut report);
    assert_eq!(report.findings[0].address, 0x1002);
    assert_eq!(functions.name_at(0x1002).as_deref(), Some("f"));
    assert_eq!(functions.name_at(0x1001), None);
}

#[test]
fn what_is_not_elf_is_refused() {
    assert!(super::sweep(b"not an ELF file").is_err());
    assert!(super::sweep(&[]).is_err());
}
