//! The machines of QEMU that the shim runs on, with their devices.
use super::machine::Model;
use super::start_on;
use crate::case::Case;
use crate::domain::{free_port, guest};
use crate::kernel::labelled_disk;
use crate::web::{pattern, small_site};
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let on_each = |what: &str, body: fn(Model) -> Result<()>| {
        Model::ALL.map(|model| {
            Case::of_shim(format!("machine::{}-{what}", model.name()), move || body(model))
        })
    };
    let cases = [
        on_each("serves", serves).map(|case| case.needs("curl")),
        on_each("disks-in-order", disks_in_order),
        on_each("gave-up", gave_up),
        on_each("stops-at-ctrl-c-only", stops_at_ctrl_c_only),
    ];
    cases.into_iter().flatten().collect()
}

fn serves(model: Model) -> Result<()> {
    let folder = tempfile::tempdir()?;
    small_site(folder.path())?;
    let (site, port) = (folder.path().display().to_string(), free_port());
    let publish = format!("127.0.0.1:{port}:80");
    let mut domain = start_on(model, &[], &["web", "--site", &site, "--publish", &publish])?;
    domain.wait_for("serving")?;
    let fetch = |name: &str| -> Result<Vec<u8>> {
        let url = format!("http://127.0.0.1:{port}/{name}");
        Ok(Command::new("curl").args(["-sS", "--fail", "--max-time", "60", &url]).output()?.stdout)
    };
    ensure!(fetch("a.txt")? == b"0123456789", "the file");
    ensure!(fetch("big.bin")?.into_iter().eq((0..3_u32 << 20).map(pattern)), "three megabytes");
    domain.stop()?.expect(0, &["stopping"])
}

/// Disks have their names in the order of QEMU's `-device` flags, with a network device among them: on
/// microvm the first flag takes the last of the transports, which is the first one on the command line
/// that QEMU writes; on q35 the flags take slots in their order.
fn disks_in_order(model: Model) -> Result<()> {
    let site = tempfile::tempdir()?;
    let (a, b) = (labelled_disk("first!", 40)?, labelled_disk("second", 50)?);
    let site = site.path().display().to_string();
    let (a_path, b_path) = (a.path().display().to_string(), format!("{},ro", b.path().display()));
    let image = guest("kernel-surface");
    let flags = ["--site", &site, "--disk", &a_path, "--disk", &b_path, &image, "--", "disks"];
    let expected = [
        "site: ",
        "read-only true, \"\\u{7f}ELF",
        "disk-a: 40 sectors, read-only false, \"first!\"",
        "disk-b: 50 sectors, read-only true, \"second\"",
        "passed",
    ];
    start_on(model, &[], &flags)?.ended()?.expect(0, &expected)?;
    let written = std::fs::read(a.path())?;
    ensure!(written[39 * 512..].starts_with(b"disk-a"), "the last sector is not what was written");
    Ok(())
}

/// A device that finds the guest's ring malformed works no more (`DEVICE_NEEDS_RESET`), and the guest is
/// ended for it before it sleeps.
fn gave_up(model: Model) -> Result<()> {
    let disk = labelled_disk("", 128)?;
    let disk = disk.path().display().to_string();
    let image = guest("hostile");
    let flags = ["--net", "none", "--disk", &disk, &image, "--", "ring-chain-loops"];
    let says = ["gave up: the guest's rings are malformed", "rip", "backtrace"];
    start_on(model, &[], &flags)?.ended()?.expect(103, &says)
}

/// Whatever else is typed, and however much, asks for nothing and holds up nothing.
fn stops_at_ctrl_c_only(model: Model) -> Result<()> {
    let image = guest("kernel-surface");
    let mut domain = start_on(model, &[], &["--net", "none", &image, "--", "drain"])?;
    domain.wait_for("ready")?;
    domain.send(&[b'x'; 1000])?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!domain.text().contains("passed"), "stopped:\n{}", domain.text());
    domain.send(b"y")?;
    domain.stop()?.expect(0, &["passed"])
}
