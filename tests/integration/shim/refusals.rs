//! Bundles and machines that the shim refuses: with one line that says what is wrong, and a status, never
//! with a silent reset.
use super::damage::{ADDED_AT, Attempt};
use super::machine::{Machine, Model};
use super::{QEMU, UNTOLD};
use crate::case::Case;
use crate::domain::{guest, release};
use anyhow::{Result, ensure};
use std::fs;
use tempfile::TempDir;

/// Exit statuses of the shim, those of `paravane run`.
const IMAGE: i32 = 101;
const HOST: i32 = 102;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::from(bundles());
    cases.extend(loaders());
    cases.extend(machines());
    cases
}

fn case(name: &str, body: fn() -> Result<()>) -> Case {
    Case::of_shim(format!("refuses::{name}"), body)
}

/// What is wrong with the bundle.
fn bundles() -> [Case; 5] {
    [
        case("truncated-kernel", truncated_kernel),
        case("truncated-site", truncated_site),
        case("damaged-payload", || {
            let attempt = plain()?.flip()?;
            let machine = attempt.machine(Model::Microvm)?;
            refused(machine, attempt, IMAGE, "the bundle is damaged: its checksum is wrong")
        }),
        case("shim-without-payload", || {
            let folder = tempfile::tempdir()?;
            let machine = Machine::new(Model::Microvm, 64, &release().join("shim"));
            refused_in(machine, folder, IMAGE, "there is no bundle behind the shim")
        }),
        case("image-of-another-abi", || {
            let attempt = plain()?.with_abi_version(0x2_0000)?;
            let machine = attempt.machine(Model::Microvm)?;
            refused(machine, attempt, IMAGE, "2.0")
        }),
    ]
}

/// What is wrong with the loader: code that runs before the shim makes it so.
fn loaders() -> [Case; 3] {
    let tampered = |name, code: fn() -> Vec<u8>, says: &'static str| {
        Case::of_shim(format!("refuses::{name}"), move || {
            let attempt = plain()?.with_code(&code())?;
            let machine = attempt.machine(Model::Microvm)?;
            refused(machine, attempt, HOST, says)
        })
    };
    [
        // mov dword [ebx + 4], 7
        tampered("start-info-version", || vec![0xc7, 0x43, 4, 7, 0, 0, 0], "has version 7"),
        // mov ebx, ADDED_AT
        tampered(
            "no-start-info",
            || [&[0xbb], ADDED_AT.to_le_bytes().as_slice()].concat(),
            "gave no PVH start info",
        ),
        // mov dword [ebx + 48], 0
        tampered("no-memory-map", || vec![0xc7, 0x43, 48, 0, 0, 0, 0], "no usable memory map"),
    ]
}

/// What is wrong with the machine.
fn machines() -> Vec<Case> {
    let odd = |name, model, flags: &'static [&'static str], says: &'static str| {
        Case::of_shim(format!("refuses::{name}"), move || {
            let attempt = plain()?;
            let disk = attempt.path();
            let machine = attempt.machine(model)?.with_disk(&disk, true).with(flags);
            refused(machine, attempt, HOST, says)
        })
    };
    let microvm = Model::Microvm;
    vec![
        odd("no-fsgsbase", microvm, &["-cpu", "qemu64"], "FSGSBASE"),
        odd("no-rdrand", microvm, &["-cpu", "qemu64,+fsgsbase"], "RDRAND"),
        odd("no-long-mode", microvm, &["-cpu", "qemu32"], "no 64-bit mode"),
        odd(
            "legacy-mmio",
            microvm,
            &["-global", "virtio-mmio.force-legacy=true"],
            "add -global virtio-mmio.force-legacy=false",
        ),
        odd(
            "legacy-pci",
            Model::Q35,
            &[
                "-global",
                "virtio-pci.disable-legacy=off",
                "-global",
                "virtio-pci.disable-modern=on",
            ],
            "disable-modern=off",
        ),
        odd(
            "malformed-device-parameter",
            microvm,
            &["-append", "virtio_mmio.device=4K@nowhere"],
            "virtio_mmio.device=<size>@<base>:<interrupt>",
        ),
        odd(
            "no-device-there",
            microvm,
            &["-append", "virtio_mmio.device=512@0xd0000000:5"],
            "does not answer as a virtio device",
        ),
        case("no-network-device", || {
            let attempt = web()?;
            let machine = attempt.machine(Model::Microvm)?.with_disk(&attempt.path(), true);
            refused(machine, attempt, HOST, "the image web needs a network device")
        }),
        case("no-block-device", || {
            let attempt = web()?;
            let machine = attempt.machine(Model::Q35)?.with_network("user");
            refused(machine, attempt, HOST, "the image web needs a block device")
        }),
        case("devices-in-acpi-only", || {
            let attempt = web()?;
            let machine = attempt.machine(Model::Microvm)?.with(&["-M", "microvm,acpi=on"]);
            let machine = machine.with_disk(&attempt.path(), true).with_network("user");
            refused(machine, attempt, HOST, "microvm shows them with acpi=off only")
        }),
        case("too-many-devices", too_many_devices),
        case("too-little-memory", || Model::ALL.into_iter().try_for_each(too_little_memory)),
    ]
}

fn plain() -> Result<Attempt> {
    Attempt::new(&["--net", "none", &guest("kernel-surface"), "--", "exit"])
}

fn web() -> Result<Attempt> {
    let site = tempfile::tempdir()?;
    fs::write(site.path().join("index.html"), [b'x'; 10_000])?;
    Attempt::new(&["web", "--site", &site.path().display().to_string()])
}

fn refused(machine: Machine, attempt: Attempt, status: i32, says: &str) -> Result<()> {
    refused_in(machine, attempt.folder, status, says)
}

/// The machine ends with one line from the shim.
fn refused_in(machine: Machine, folder: TempDir, status: i32, says: &str) -> Result<()> {
    let ended = machine.start(folder)?.ended()?;
    ended.expect(status, &["paravane: ", says])?;
    let lines = ended.text.lines().filter(|line| !line.starts_with(QEMU)).count();
    ensure!(lines == 1, "{lines} lines:\n{}", ended.text);
    Ok(())
}

/// QEMU itself does not take it.
fn truncated_kernel() -> Result<()> {
    let attempt = plain()?;
    let half = attempt.len() / 2;
    let attempt = attempt.cut(half);
    let machine = attempt.machine(Model::Microvm)?;
    machine.start(attempt.folder)?.ended()?.expect(UNTOLD, &[QEMU])
}

/// All that is loaded is there, but not all of the site.
fn truncated_site() -> Result<()> {
    let attempt = web()?.cut(5 * 512);
    let disk = attempt.path();
    let machine = attempt.machine(Model::Microvm)?.with_disk(&disk, true).with_network("user");
    refused(machine, attempt, IMAGE, "the bundle's disk is truncated")
}

/// QEMU's microvm has no more than eight.
fn too_many_devices() -> Result<()> {
    let attempt = plain()?;
    let disk = attempt.path();
    let machine = attempt.machine(Model::Q35)?;
    let machine = (0..17).fold(machine, |machine, _| machine.with_disk(&disk, true));
    refused(machine, attempt, HOST, "more than 16 network and block devices")
}

/// From what has hardly room for the shim to almost enough. With 2 MiB and less the shim does not lie in RAM
/// at all, and nothing runs that could say so.
fn too_little_memory(model: Model) -> Result<()> {
    for memory_mib in [3, 4, 6, 8, 12, 16] {
        let attempt = plain()?;
        let machine = attempt.machine_with(model, memory_mib)?;
        refused(machine, attempt, HOST, "-m")?;
    }
    let attempt = plain()?;
    let machine = attempt.machine_with(model, 24)?;
    machine.start(attempt.folder)?.ended()?.expect(42, &[])
}
