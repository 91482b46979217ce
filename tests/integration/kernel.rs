//! The kernel on a real host: the parts of the `kernel-surface` guest.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, Ended, guest};
use anyhow::{Context, Result, ensure};

/// Exit statuses of `paravane run`.
const CRASHED: i32 = 103;
const HUNG: i32 = 104;

pub(crate) fn cases() -> Vec<Case> {
    let parts = ["tasks", "timers", "fibers", "memory"];
    let parts = parts.map(|part| Case::new(format!("kernel::{part}"), move |b| passes(b, part)));
    let others = [
        Case::new("kernel::entropy", entropy),
        Case::new("kernel::drain", drain),
        Case::new("kernel::exit", |b| run(b, "exit")?.expect(42, &[])),
        Case::new("kernel::overflow", |b| {
            run(b, "overflow")?.expect(CRASHED, &["overflowed", "deep"])
        }),
        Case::new("kernel::panic", panic),
        Case::new("kernel::hoard", |b| run(b, "hoard")?.expect(CRASHED, &["out of memory"])),
        Case::new("kernel::spin", |b| start(b, "spin", "1")?.ended()?.expect(HUNG, &["spin"])),
    ];
    parts.into_iter().chain(others).collect()
}

fn start(backend: Backend, part: &str, watchdog: &str) -> Result<Domain> {
    let flags = ["--net", "none", "--memory", "16M", "--watchdog", watchdog];
    let image = guest("kernel-surface");
    Domain::start(backend, &[&flags[..], &[&image, "--", part]].concat())
}

fn run(backend: Backend, part: &str) -> Result<Ended> {
    // No watchdog: slow machines take their time.
    start(backend, part, "0")?.ended()
}

fn passes(backend: Backend, part: &str) -> Result<()> {
    run(backend, part)?.expect(0, &["passed"])
}

/// A guest that ends in a hypercall is reported where it called. Whether the processor stands at the
/// instruction that left or behind it depends on the host (docs/portability.md).
fn panic(backend: Backend) -> Result<()> {
    let ended = run(backend, "panic")?;
    ended.expect(CRASHED, &["a fiber gave up"])?;
    let first = ended.text.lines().find(|line| line.trim_start().starts_with("0: "));
    ensure!(first.is_some_and(|f| f.contains("kernel/src/hypercall.rs")), "{}", ended.text);
    Ok(())
}

/// Two guests never share their randomness.
fn entropy(backend: Backend) -> Result<()> {
    let random = || {
        let ended = run(backend, "entropy")?;
        ended.expect(0, &["passed"])?;
        let line = ended.text.lines().find(|line| line.starts_with("random "));
        line.map(str::to_owned).context("no random line")
    };
    let (first, second) = (random()?, random()?);
    ensure!(first != second, "twice {first}");
    Ok(())
}

/// A guest that was asked to stop takes its time, asleep, and ends by itself.
fn drain(backend: Backend) -> Result<()> {
    let mut domain = start(backend, "drain", "0")?;
    domain.wait_for("ready")?;
    domain.stop()?.expect(0, &["passed"])
}
