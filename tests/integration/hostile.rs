//! Hostile guests: each breaks one rule, and each ends as the rule says, with a clear report.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, guest};
use anyhow::Result;
use std::io::Write;
use std::process::Command;

/// Exit statuses of `paravane run`.
const CRASHED: i32 = 103;
const HUNG: i32 = 104;

/// What the report says about a property, where that is one thing on every host: the cause and, for a
/// page fault, the address. Where a machine's oddity is no longer worked around, it is this that a
/// report loses (docs/portability.md).
const CAUSES: &[(&str, &str)] = &[
    ("hlt", "general protection fault"),
    ("read-cr0", "general protection fault"),
    ("read-cr3", "general protection fault"),
    ("write-cr3", "general protection fault"),
    ("rdmsr", "general protection fault"),
    ("xsetbv", "general protection fault"),
    ("int-0x80", "a direct system call (number 20)"),
    ("int3", "breakpoint (vector 3)"),
    ("ud2", "invalid instruction (vector 6)"),
    ("syscall-getpid", "a direct system call (number 39)"),
    ("syscall-write", "a direct system call (number 1)"),
    ("divide-by-zero", "of a division (vector 0)"),
    ("trap-flag", "debug exception (vector 1)"),
    ("sse-exception", "SIMD floating-point error (vector 19)"),
    ("far-jump-kernel", "general protection fault"),
    ("iret-kernel", "general protection fault"),
    ("read-null", "page fault, read of 0x0: a null pointer"),
    ("read-low", "page fault, read of 0x400000: not memory"),
    ("read-non-canonical", "general protection fault"),
    ("read-kernel-half", "page fault, read of 0xffff800000000000: not memory"),
    ("write-text", "a page of the image with other access rights"),
    ("execute-stack", "page fault, jump to 0x1000"),
    ("jump-null", "page fault, jump to 0x0: a null pointer"),
    ("stack-overflow", "the guard page of stack 0: it overflowed"),
    ("stack-pointer-lost", "page fault, write to 0xfffffffffffffff8: not memory"),
];

/// Properties that fault where CPL 3 is kept from all ports but the hypercalls', as decision 0005 says.
const PORT_GUARD: [&str; 5] = ["cli", "sti", "in-port", "out-port", "out-report-port"];

/// Cases from the guest's own table of properties, so that none is forgotten.
pub(crate) fn cases() -> Vec<Case> {
    let table = properties();
    let tabled =
        table.lines().filter_map(|line| line.split_once(' ')).filter_map(|(name, then)| {
            let name = name.to_owned();
            match then {
                "lives" => Some(Case::new(format!("hostile::{name}"), move |b| lives(b, &name))),
                "dies" if !SPECIAL.contains(&name.as_str()) => {
                    Some(Case::new(format!("hostile::{name}"), move |b| dies(b, &name)))
                }
                "either" => Some(Case::new(format!("hostile::{name}"), move |b| either(b, &name))),
                _ => None,
            }
        });
    tabled
        .chain([
            Case::new("hostile::table", |_| {
                let count = properties().lines().count();
                anyhow::ensure!(count > 80, "the guest lists {count} properties");
                Ok(())
            }),
            Case::new("hostile::sse-exception", |b| dies(b, "sse-exception"))
                .not_on_shim("QEMU's processor does not know SIMD exceptions"),
            Case::new("hostile::ring-used-in-text", |b| dies(b, "ring-used-in-text")).not_on_shim(
                "QEMU's devices write wherever the guest says, which is for ever here",
            ),
            Case::new("hostile::loop", endless),
            Case::new("hostile::loop-calls", endless_calls),
            Case::new("hostile::exit-255", |b| run(b, "exit-255")?.expect(CRASHED, &["255"])),
        ])
        .collect()
}

/// Properties whose end is checked by a case of its own.
const SPECIAL: [&str; 5] = ["sse-exception", "ring-used-in-text", "loop", "loop-calls", "exit-255"];

/// Properties that end in another way on the shim: with this status, and this phrase. There the machine's
/// devices work on the guest's rings. They find most mistakes, but reach all memory of the machine unless
/// it has an IOMMU: what is the guest's own but not writable for it, and what is not the guest's.
const ON_SHIM: [(&str, i32, &str); 7] = [
    // QEMU's processor reads the stack of a far return as ring 0 would, which SMAP forbids.
    ("far-jump-kernel", CRASHED, "backtrace"),
    ("iret-kernel", CRASHED, "backtrace"),
    ("ring-read-into-text", 2, "the device wrote where the guest may not"),
    ("ring-read-into-guard-page", 2, "the device wrote where the guest may not"),
    ("ring-on-guard-page", 1, "survived"),
    ("ring-buffer-behind-ram", 1, "survived"),
    // QEMU's devices read zeros where there is no memory.
    ("ring-buffer-wraps", 1, "survived"),
];

/// The guest's list of properties, from a run without arguments on the first backend that works.
fn properties() -> String {
    let backend = Backend::ALL.into_iter().find(|b| b.missing().is_none());
    let listed = backend.map(|b| Domain::run(b, &["--net", "none", &guest("hostile")]));
    listed.and_then(Result::ok).map(|ended| ended.text).unwrap_or_default()
}

fn run(backend: Backend, property: &str) -> Result<crate::domain::Ended> {
    let mut disk = tempfile::NamedTempFile::new()?;
    disk.write_all(&[7; 64 << 10])?;
    let disk = disk.path().display().to_string();
    Domain::run(
        backend,
        &["--net", "none", "--memory", "16M", "--disk", &disk, &guest("hostile"), "--", property],
    )
}

fn lives(backend: Backend, property: &str) -> Result<()> {
    run(backend, property)?.expect(0, &["survived, as it should"])
}

/// The domain ends with a report that says what happened and where.
fn dies(backend: Backend, property: &str) -> Result<()> {
    let is_meant = |(name, ..): &&(&str, i32, &str)| *name == property && backend == Backend::Shim;
    if let Some((_, status, phrase)) = ON_SHIM.iter().find(is_meant) {
        return run(backend, property)?.expect(*status, &[phrase]);
    }
    let cause = CAUSES.iter().find(|(name, _)| *name == property).map_or("", |(_, cause)| cause);
    let cause = if must_fault(backend, property) { "general protection fault" } else { cause };
    run(backend, property)?.expect(CRASHED, &[cause, "rip", "rsp", "backtrace"])
}

/// Where an outer hypervisor answers the guest's `vmcall`, nothing has happened; elsewhere it faults.
/// With IOPL 3, `cli` and `sti` do nothing of consequence; where the I/O bitmap works, they fault.
fn either(backend: Backend, property: &str) -> Result<()> {
    if must_fault(backend, property) {
        return dies(backend, property);
    }
    let ended = run(backend, property)?;
    match ended.status {
        0 => ended.expect(0, &["survived, as it may"]),
        _ => ended.expect(CRASHED, &["rip", "backtrace"]),
    }
}

/// Whether the property is one that has to fault on this machine: with hardware virtualization, in a
/// process, and behind the shim. Software KVM does not look at the I/O bitmap.
fn must_fault(backend: Backend, property: &str) -> bool {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_hardware = processor.split_whitespace().any(|word| matches!(word, "vmx" | "svm"));
    PORT_GUARD.contains(&property) && (backend != Backend::Kvm || has_hardware)
}

fn endless(backend: Backend) -> Result<()> {
    let arguments = ["--net", "none", "--watchdog", "1", &guest("hostile"), "--", "loop"];
    Domain::run(backend, &arguments)?.expect(HUNG, &["rip", "backtrace"])
}

/// A guest that calls without end has not hung; a stop that it ignores ends in a kill.
fn endless_calls(backend: Backend) -> Result<()> {
    let arguments = ["--net", "none", "--watchdog", "1", &guest("hostile"), "--", "loop-calls"];
    let mut domain = Domain::start(backend, &arguments)?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    anyhow::ensure!(
        Command::new("kill").arg("-0").arg(domain.pid().to_string()).status()?.success()
    );
    if backend == Backend::Shim {
        // Whoever switched the machine on switches it off.
        return Ok(());
    }
    domain.signal(libc::SIGINT)?;
    domain.wait_for("again")?;
    domain.signal(libc::SIGINT)?;
    domain.ended()?.expect(130, &[])
}
