//! A bundle in the hands of rust-vmm's ELF loader, which Firecracker and Cloud Hypervisor start kernels with.
use crate::domain::paravane;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use object::{Object, ObjectSymbol};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// RAM of the machine, and where it may have kernels: above 1 MiB.
const RAM_LEN: usize = 64 << 20;
const KERNELS: GuestAddress = GuestAddress(1 << 20);

pub(crate) fn trials() -> Vec<Trial> {
    let body = || found().map_err(|e| format!("{e:?}").into());
    vec![Trial::test("bundle::rust-vmm-finds-entry-and-payload", body)]
}

/// The loader finds the 32-bit entry point, and puts the payload where the shim looks for it.
fn found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("site.elf");
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/site");
    let mut command = Command::new(paravane());
    command.args(["bundle", "web", "--site"]).arg(site).arg("-o").arg(&bundle);
    let output = command.output().context("target/release/paravane is built: scripts/build")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), RAM_LEN)])?;
    let loaded = Elf::load(&memory, None, &mut File::open(&bundle)?, Some(KERNELS))?;
    let KernelLoaderResult { kernel_load: entry, kernel_end, pvh_boot_cap, .. } = loaded;
    ensure!(pvh_boot_cap == PvhBootCapability::PvhEntryPresent(entry), "{pvh_boot_cap}");
    let payload = GuestAddress(shim_end()?);
    let mut magic = [0; 8];
    memory.read_slice(&mut magic, payload)?;
    ensure!(&magic == b"PVBUNDLE", "{magic:x?} at {payload:x?}");
    ensure!(kernel_end > payload.0, "{kernel_end:#x} is not behind the payload's start");
    Ok(())
}

/// Where the shim ends, by its symbol.
fn shim_end() -> Result<u64> {
    let bytes = std::fs::read(paravane().with_file_name("shim"))?;
    let file = object::File::parse(bytes.as_slice())?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok("__shim_end"));
    Ok(symbol.context("the shim has no symbol __shim_end")?.address())
}
