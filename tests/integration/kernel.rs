//! The kernel on a real host: the parts of the `kernel-surface` guest.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, Ended, guest};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use tempfile::NamedTempFile;

/// Exit statuses of `paravane run`.
const CRASHED: i32 = 103;
const HUNG: i32 = 104;

pub(crate) fn cases() -> Vec<Case> {
    let parts = ["tasks", "timers", "fibers", "memory"];
    let parts = parts.map(|part| Case::new(format!("kernel::{part}"), move |b| passes(b, part)));
    let others = [
        Case::new("kernel::entropy", entropy),
        Case::new("kernel::disks", disks),
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

/// Disks have the names that the command line gives them by its order.
fn disks(backend: Backend) -> Result<()> {
    let (a, b) = (labelled_disk("first!", 40)?, labelled_disk("second", 50)?);
    let (a_path, b_path) = (a.path().display().to_string(), format!("{},ro", b.path().display()));
    let image = guest("kernel-surface");
    let flags = ["--net", "none", "--disk", &a_path, "--disk", &b_path, &image, "--", "disks"];
    let expected = [
        "disk-a: 40 sectors, read-only false, \"first!\"",
        "disk-b: 50 sectors, read-only true, \"second\"",
        "passed",
    ];
    Domain::run(backend, &flags)?.expect(0, &expected)?;
    let written = std::fs::read(a.path())?;
    ensure!(written[39 * 512..].starts_with(b"disk-a"), "the last sector is not what was written");
    Ok(())
}

/// A disk that begins with `label`.
pub(crate) fn labelled_disk(label: &str, sectors: u64) -> Result<NamedTempFile> {
    let mut disk = NamedTempFile::new()?;
    disk.as_file().set_len(sectors * 512)?;
    disk.write_all(label.as_bytes())?;
    Ok(disk)
}
