//! A machine in QEMU, with the devices that are put into it.
use crate::domain::Domain;
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// QEMU's machine types that the shim is tested on. Their virtio devices hang on different buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// virtio-mmio devices, named on the command line, with interrupt lines.
    Microvm,
    /// virtio-pci devices without a legacy interface, with messages.
    Q35,
}

impl Model {
    pub(super) const ALL: [Self; 2] = [Self::Microvm, Self::Q35];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Microvm => "microvm",
            Self::Q35 => "q35",
        }
    }

    fn words(self) -> [&'static str; 4] {
        match self {
            // Without this, QEMU's virtio-mmio devices are of before virtio 1.0.
            Self::Microvm => {
                ["-M", "microvm,acpi=off", "-global", "virtio-mmio.force-legacy=false"]
            }
            Self::Q35 => ["-M", "q35", "-global", "virtio-pci.disable-legacy=on"],
        }
    }

    /// QEMU's name for a kind of virtio device.
    pub(super) fn device(self, kind: &str) -> String {
        match self {
            Self::Microvm => format!("virtio-{kind}-device"),
            Self::Q35 => format!("virtio-{kind}-pci"),
        }
    }
}

/// A machine that is put together. Devices are in the order in which they are added.
#[derive(Debug)]
pub(super) struct Machine {
    model: Model,
    words: Vec<String>,
    disk_count: u32,
}

/// What every machine has: one emulated processor, a serial line, and a port that ends QEMU.
const ALWAYS: [&str; 13] = [
    "-accel",
    "tcg",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-serial",
    "stdio",
    "-device",
    "isa-debug-exit,iobase=0xf4,iosize=4",
    "-cpu",
    "max",
];

impl Machine {
    /// A machine that boots `bundle`, without further devices.
    pub(super) fn new(model: Model, memory_mib: u64, bundle: &Path) -> Self {
        let machine = Self { model, words: Vec::new(), disk_count: 0 };
        let (memory, bundle) = (memory_mib.to_string(), bundle.display().to_string());
        machine.with(&model.words()).with(&ALWAYS).with(&["-m", &memory, "-kernel", &bundle])
    }

    /// The same machine with more flags; of a flag given twice, such as `-cpu`, the last one holds.
    pub(super) fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// With a disk.
    pub(super) fn with_disk(mut self, path: &Path, is_read_only: bool) -> Self {
        let id = format!("disk{}", self.disk_count);
        self.disk_count += 1;
        let read_only = if is_read_only { "on" } else { "off" };
        let path = path.display().to_string().replace(',', ",,");
        let drive = format!("if=none,id={id},format=raw,readonly={read_only},file={path}");
        let device = format!("{},drive={id}", self.model.device("blk"));
        self.with(&["-drive", &drive, "-device", &device])
    }

    /// With a network device and what it is connected to, in `-netdev`'s words.
    pub(super) fn with_network(self, netdev: &str) -> Self {
        let device = format!("{},netdev=net", self.model.device("net"));
        self.with(&["-netdev", &format!("{netdev},id=net"), "-device", &device])
    }

    /// Switches it on, with the words of `before` in front of the command. The folder with what it needs
    /// is kept as long as it runs.
    pub(super) fn start_behind(self, before: &[&str], folder: TempDir) -> Result<Domain> {
        let words = [before, &[super::QEMU]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(&self.words);
        Domain::spawn_machine(command, folder)
    }

    /// Switches it on.
    pub(super) fn start(self, folder: TempDir) -> Result<Domain> {
        self.start_behind(&[], folder)
    }
}
