//! `paravane run` with guests of a few instructions each, on the process backend.
#![allow(clippy::unwrap_used, reason = "a test")]
use std::arch::naked_asm;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

#[path = "../../host/tests/common/elf.rs"]
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

guest!(reads_null, "mov rax, [8]", "ud2");
guest!(jumps_away, "movabs rax, 0x7000", "call rax");
guest!(writes_text, "lea rax, [rip]", "mov [rax], rax", "ud2");
guest!(runs_data, "lea rax, [rsp - 64]", "jmp rax");
guest!(overflows, "2: push rax", "jmp 2b");
guest!(halts, "hlt");
guest!(system_call, "mov eax, 39", "syscall", "ud2");
guest!(old_system_call, "mov eax, 20", "int 0x80", "ud2");
guest!(loses_stack, "xor esp, esp", "movabs rax, 0x0ffff0001060", "xor edi, edi", "call rax");
guest!(loops, "2: jmp 2b");
guest!(
    waits_then_loops,
    "mov edi, 2500000000",
    "movabs rax, 0x0ffff0001060",
    "call rax",
    "2: jmp 2b",
);
guest!(
    panics,
    "push rbp",
    "mov rbp, rsp",
    "call 3f",
    "3: push rbp",
    "mov rbp, rsp",
    "lea rdi, [rip + 2f]",
    "mov esi, 4",
    "movabs rax, 0x0ffff0001040",
    "call rax",
    "2: .ascii \"oops\"",
);
// Every call of the table with arguments that are wrong in one way each; ends with the number of the
// first one that was not answered as it must be, or 0.
guest!(
    hostile_arguments,
    "mov r15, rdi",
    "lea rbx, [rip + 2f]",
    "3: mov ebp, [rbx]",
    "cmp ebp, -1",
    "je 4f",
    "inc r14d",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "shl ebp, 5",
    "movabs rax, 0x0ffff0001000",
    "add rax, rbp",
    "std",
    "call rax",
    "pushfq",
    "pop rcx",
    "bt ecx, 10",
    "jc 5f",
    "cmp rax, [rbx + 24]",
    "jne 5f",
    "add rbx, 32",
    "jmp 3b",
    "4: xor r14d, r14d",
    "5: mov edi, r14d",
    "movabs rax, 0x0ffff0001020",
    "call rax",
    "ud2",
    ".balign 8",
    "2:",
    // Call, two arguments, result.
    ".quad 0, 0, 1, -3",
    ".quad 0, 0x0ffff0001000, 1, -3",
    ".quad 0, 0x100000000000, -1, 4096",
    ".quad 0, 0x1000003fffff, 2, -3",
    ".quad 0, 0x100000203000, 1, -3",
    ".quad 0, -1, -1, -3",
    ".quad 0, 0x100000000000, 0, 0",
    ".quad 4, 0, 0, -4",
    ".quad 4, -1, -1, -4",
    ".quad 5, 0x100000000000, 143, -2",
    ".quad 5, 0, 144, -3",
    ".quad 5, 0x100000000000, 144, -4",
    ".quad 6, 0, 1, -2",
    ".quad 6, 0x200000, 4096, -2",
    ".quad 6, 0x203000, 4096, -2",
    ".quad 6, 0x400000, 4096, -2",
    ".quad 6, -4096, 8192, -2",
    ".quad 6, 0, -4096, -2",
    ".quad 6, 0, 0x200000, 0",
    ".quad 7, 0x100000000000, 257, -2",
    ".quad 7, 0x100000201000, 8, -3",
    ".quad 7, 0, 8, -3",
    ".quad 7, 0x100000000000, 256, 0",
    ".quad 8, 0, 0, -1",
    ".quad 15, 0, 0, -1",
    ".quad -1",
);
// Checks that a released page reads as zero, that entropy comes, and that registers are kept.
guest!(
    keeps_promises,
    "movabs r12, 0x100000000000",
    "mov qword ptr [r12], 77",
    "xor edi, edi",
    "mov esi, 4096",
    "mov r13, rsp",
    "mov rbp, 0x1234",
    "push 0x1f82",
    "mov dword ptr [rsp], 0x5f80",
    "ldmxcsr [rsp]",
    "pop rax",
    "mov eax, 0x1111",
    "wrfsbase rax",
    "movabs rax, 0x0ffff00010c0",
    "call rax",
    "cmp rsp, r13",
    "jne 9f",
    "cmp rbp, 0x1234",
    "jne 9f",
    "rdfsbase rax",
    "cmp rax, 0x1111",
    "jne 9f",
    "push 0",
    "stmxcsr [rsp]",
    "pop rax",
    "cmp eax, 0x5f80",
    "jne 9f",
    "cmp qword ptr [r12], 0",
    "jne 9f",
    "mov rdi, r12",
    "mov esi, 8",
    "movabs rax, 0x0ffff00010e0",
    "call rax",
    "cmp qword ptr [r12], 0",
    "je 9f",
    // Wait 20 ms of monotonic time.
    "mov edi, 20000000",
    "movabs rax, 0x0ffff0001060",
    "call rax",
    "test rax, rax",
    "jne 9f",
    "xor edi, edi",
    "jmp 8f",
    "9: mov edi, 1",
    "8: movabs rax, 0x0ffff0001020",
    "call rax",
    "ud2",
);
// Waits for ever; ends cleanly on a stop.
guest!(
    waits,
    "2: mov rdi, -1",
    "movabs rax, 0x0ffff0001060",
    "call rax",
    "test rax, rax",
    "jns 2b",
    "xor edi, edi",
    "movabs rax, 0x0ffff0001020",
    "call rax",
    "ud2",
);
// Waits again and again, whatever it is asked.
guest!(ignores_stop, "2: xor edi, edi", "movabs rax, 0x0ffff0001060", "call rax", "jmp 2b");

fn image(guest: &ElfBuilder) -> NamedTempFile {
    let mut image = NamedTempFile::new().unwrap();
    image.write_all(&guest.build()).unwrap();
    image
}

fn command(image: &NamedTempFile, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paravane"));
    command.arg("run").arg(image.path()).args(["--backend", "process"]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(guest: &ElfBuilder, flags: &[&str]) -> Output {
    command(&image(guest), flags).output().unwrap()
}

/// The guest ends with this status and a report that has each phrase.
fn check(guest: &ElfBuilder, flags: &[&str], status: i32, phrases: &[&str]) {
    let output = run(guest, flags);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for phrase in phrases.iter().chain(&["registers:", "backtrace:"]) {
        assert!(text.contains(phrase), "{phrase:?} is missing:\n{text}");
    }
}

#[test]
fn a_guest_writes_to_the_console_and_ends_with_its_status() {
    let output = run(&hello(), &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn faults_are_reported() {
    let (text, stack) = ("0x0000100000201000", "the guard page of stack 0: it overflowed");
    check(&reads_null(), &[], 103, &["read of 0x8: a null pointer", text]);
    check(&jumps_away(), &[], 103, &["jump to 0x7000", "0x000010000020100c"]);
    check(&writes_text(), &[], 103, &["write to 0x100000201007", "other access rights"]);
    check(&runs_data(), &[], 103, &["jump to", "RAM"]);
    check(&overflows(), &[], 103, &["write to 0x100000203ff8", stack]);
    check(&halts(), &[], 103, &["general protection fault", text]);
    check(&loses_stack(), &[], 103, &["page fault"]);
}

#[test]
fn direct_system_calls_are_reported() {
    check(&system_call(), &[], 103, &["direct system call (number 39)"]);
    check(&old_system_call(), &[], 103, &["direct system call (number 20)"]);
}

#[test]
fn a_panic_is_reported_with_its_callers() {
    let callers = ["panic: oops", "0x0000100000201025", "0x0000100000201009"];
    check(&panics(), &[], 103, &callers);
}

#[test]
fn a_hang_is_reported() {
    check(&loops(), &["--watchdog", "1"], 104, &["it hung", "rip 0000100000201000"]);
}

#[test]
fn hostile_arguments_are_answered_with_errors() {
    let output = run(&hostile_arguments(), &["--memory", "4M"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "the status is the number of the call: {text}");
}

#[test]
fn hypercalls_keep_their_promises() {
    for flags in [&[][..], &["--poll", "10000"]] {
        let output = run(&keeps_promises(), flags);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn looking_for_news_has_a_limit() {
    let output = run(&keeps_promises(), &["--poll", "10001"]);
    assert_eq!(output.status.code(), Some(100));
}

fn signal(child: &Child, signal: &str) {
    send(signal, &child.id().to_string());
}

fn send(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// Number of the domain process.
fn domain_of(child: &Child) -> String {
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let domain = std::fs::read_to_string(path).unwrap().trim().to_owned();
    assert!(!domain.is_empty());
    domain
}

/// How often a process has gone to sleep or was interrupted.
fn switches(pid: &str) -> Vec<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect()
}

#[test]
fn nobody_wakes_up_over_a_guest_that_waits() {
    let image = image(&waits());
    let mut child = command(&image, &["--watchdog", "1"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let processes = [child.id().to_string(), domain_of(&child)];
    let before = processes.each_ref().map(|pid| switches(pid));
    std::thread::sleep(Duration::from_millis(2500));
    let after = processes.each_ref().map(|pid| switches(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_guest_that_hangs_after_a_long_wait_is_reported() {
    let image = image(&waits_then_loops());
    let mut child = command(&image, &["--watchdog", "1"]).spawn().unwrap();
    let ended = (0..6000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        child.try_wait().unwrap()
    });
    child.kill().unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(104));
}

#[test]
fn a_guest_that_does_not_get_to_run_has_not_hung() {
    let image = image(&loops());
    let mut child = command(&image, &["--watchdog", "3"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let domain = domain_of(&child);
    send("-STOP", &domain);
    std::thread::sleep(Duration::from_secs(5));
    send("-CONT", &domain);
    std::thread::sleep(Duration::from_millis(500));
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ended, None);
}

#[test]
fn text_is_the_image_files_and_a_file_that_is_cut_ends_in_a_report() {
    let image = image(&waits());
    let child = command(&image, &[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // Only root may look.
    if let Ok(maps) = std::fs::read_to_string(format!("/proc/{}/maps", domain_of(&child))) {
        let text = maps.lines().find(|line| line.starts_with("100000201000-")).unwrap();
        assert!(
            text.contains(" r-xp ") && text.ends_with(image.path().to_str().unwrap()),
            "{text}"
        );
    }
    image.as_file().set_len(0).unwrap();
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(103), "{text}");
    assert!(text.contains("registers:"), "{text}");
}

#[test]
fn a_stop_reaches_a_waiting_guest() {
    let image = image(&waits());
    let child = command(&image, &[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn a_second_stop_ends_a_guest_that_ignores_the_first() {
    let image = image(&ignores_stop());
    let child = command(&image, &[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupt again"));
}

#[test]
fn the_domain_process_does_not_outlive_its_supervisor() {
    let image = image(&waits());
    let mut child = command(&image, &[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let domain = domain_of(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || match std::fs::read_to_string(format!("/proc/{domain}/stat")) {
        Ok(stat) => stat.contains(") Z"),
        Err(_) => true,
    };
    let is_gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        gone()
    });
    assert!(is_gone, "process {domain} lives on");
}

#[test]
fn the_domain_process_holds_only_its_own_descriptors() {
    let image = image(&waits());
    let mut child = command(&image, &[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let domain = domain_of(&child);
    let status = std::fs::read_to_string(format!("/proc/{domain}/status")).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{domain}/fd")).map(Iterator::count);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    // Output, errors, the stop, and the supervisor's bell; only root may look.
    assert!(descriptors.is_err() || matches!(descriptors, Ok(4)), "{descriptors:?}");
}
