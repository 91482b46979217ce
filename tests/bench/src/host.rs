//! What images run on.
use crate::server::release;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an image runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// `paravane run --backend process`.
    Process,
    /// `paravane run --backend kvm`.
    Kvm,
    /// A bundle under QEMU, every instruction translated (TCG).
    Emulation,
}

impl Host {
    /// The hosts that this machine can be.
    pub(crate) fn available() -> Vec<Self> {
        let kvm = fs::exists("/dev/kvm").unwrap_or(false);
        let qemu = installed(QEMU);
        let present = [
            (Self::Process, true, ""),
            (Self::Kvm, kvm, "no /dev/kvm"),
            (Self::Emulation, qemu, "no QEMU"),
        ];
        for (host, _, reason) in present.iter().filter(|(_, present, _)| !present) {
            eprintln!("  {reason}: the row {} is left out", host.name());
        }
        present.into_iter().filter(|&(_, present, _)| present).map(|(host, ..)| host).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Kvm => "kvm",
            Self::Emulation => "emulation",
        }
    }

    /// Third byte of the addresses of this host's TAP network.
    pub(crate) fn subnet(self) -> u8 {
        match self {
            Self::Process => 77,
            Self::Kvm => 78,
            Self::Emulation => 79,
        }
    }
}

/// The emulator's program.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// The VMM's program.
pub(crate) fn paravane() -> PathBuf {
    release().join("paravane")
}

/// Whether a program can be started.
pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok()
}

/// Makes the file `bundle` of `image`, with further flags of `paravane bundle`.
pub(crate) fn bundle(bundle: &Path, image: &str, flags: &[String]) -> Result<()> {
    let command = ["bundle", image, "-o", &text(bundle)].map(str::to_owned);
    let done = Command::new(paravane()).args(command).args(flags).output();
    let done = done.context("running paravane bundle")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// QEMU's arguments for a machine that starts `bundle`, with its console on standard output.
pub(crate) fn machine(bundle: &Path, memory_mib: u32) -> Vec<String> {
    let fixed = "-M microvm,acpi=off -accel tcg -cpu max -nodefaults -no-user-config -no-reboot \
                 -display none -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \
                 -global virtio-mmio.force-legacy=false";
    let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    arguments.extend(words(&["-m", &memory_mib.to_string(), "-kernel", &text(bundle)]));
    arguments
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Words as arguments.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
