//! The shim as a backend: bundles in QEMU. And what only the shim has: machines and their devices, and
//! bundles and machines that it refuses.
mod damage;
mod flags;
mod machine;
mod machines;
mod refusals;

use crate::case::{Case, is_installed};
use crate::domain::{Domain, Ended, paravane, release};
use anyhow::{Context, Result, ensure};
use flags::Flags;
use machine::Model;
use std::path::Path;
use std::process::Command;

/// The byte on the serial line that asks the guest to stop.
pub(crate) const CTRL_C: u8 = 3;

/// The emulator.
const QEMU: &str = "qemu-system-x86_64";

/// What the shim says last, before the status.
const MARKER: &str = "paravane: exit status ";

/// Status of a machine that ended without the shim's last line.
const UNTOLD: i32 = -1;

pub(crate) fn cases() -> Vec<Case> {
    [machines::cases(), refusals::cases()].into_iter().flatten().collect()
}

/// Why bundles cannot be tried on this machine.
pub(crate) fn missing() -> Option<String> {
    if !is_installed(QEMU) {
        return Some(format!("{QEMU} is not installed"));
    }
    let is_built = release().join("shim").is_file();
    (!is_built).then(|| "target/release/shim is not built".to_owned())
}

/// Starts what `paravane run ARGUMENTS` would, as a bundle in a machine; with the words of `before` in
/// front of the command. A bundle that cannot be made is an [`Ended`] as the error.
pub(crate) fn start_behind(before: &[&str], arguments: &[&str]) -> Result<Domain> {
    start_on(Model::Microvm, before, arguments)
}

fn start_on(model: Model, before: &[&str], arguments: &[&str]) -> Result<Domain> {
    let flags = Flags::parse(arguments)?;
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("bundle");
    make(&flags, &bundle)?;
    flags.machine(model, &bundle)?.start_behind(before, folder)
}

fn make(flags: &Flags<'_>, bundle: &Path) -> Result<()> {
    let path = bundle.to_str().context("a path in UTF-8")?;
    let mut command = Command::new(paravane());
    command.args(flags.bundle_words(path));
    match Domain::spawn(command)?.ended()? {
        Ended { status: 0, .. } => Ok(()),
        refused => Err(refused.into()),
    }
}

/// The status that the shim's last line tells, with which QEMU's own has to agree (`isa-debug-exit`), and
/// the text without that line. QEMU's complaints can come in between.
pub(crate) fn told_status(qemu_status: i32, text: &str) -> Result<(i32, String)> {
    let Some(told) = text.lines().filter_map(|line| line.strip_prefix(MARKER)).next_back() else {
        ensure!(qemu_status != 0, "the machine ended without a word:\n{text}");
        return Ok((UNTOLD, text.to_owned()));
    };
    let status = told.parse().with_context(|| format!("{told:?} is no status"))?;
    let expected = 2 * status + 1;
    ensure!(qemu_status == expected, "QEMU's status is {qemu_status}, not {expected}:\n{text}");
    Ok((status, text.replace(&format!("{MARKER}{told}\n"), "")))
}
