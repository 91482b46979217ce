//! Guest that runs the benchmark's input and output, as `io-native` does on the host.
use core::arch::asm;
use paravane_abi::device::DeviceKind;
use paravane_abi::hypercall::{CALL_COUNT, SLOT_SIZE};
use paravane_abi::layout::HYPERCALL_PAGE;
use paravane_abi::manifest::{Manifest, ManifestDevice};
use paravane_kernel::block::{BlockError, Disk, SECTOR_SIZE};
use paravane_loads::Machine;
use std::io;

const BLOCK: ManifestDevice = ManifestDevice { kind: DeviceKind::Block as u32, required: 1 };

paravane_libc::image!(Manifest::new("io-loads", 16 << 20, &[BLOCK]));

/// A block device, and a host.
struct Guest(Disk);

impl Machine for Guest {
    async fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.0.read(offset / SECTOR_SIZE, data).await.map_err(to_io)
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset / SECTOR_SIZE, data).await.map_err(to_io)
    }

    async fn flush(&self) -> io::Result<()> {
        self.0.flush().await.map_err(to_io)
    }

    /// The first hypercall that does not exist: there and back, and nothing else.
    fn call(&self) {
        let slot = HYPERCALL_PAGE + SLOT_SIZE * CALL_COUNT;
        // SAFETY: the host fills this slot, too. The call keeps the stack and what a C function keeps, and
        // touches no memory.
        unsafe {
            asm!("call {slot}", slot = in(reg) slot, lateout("rax") _, clobber_abi("sysv64"));
        }
    }
}

fn to_io(error: BlockError) -> io::Error {
    io::Error::other(format!("{error:?}"))
}

fn main() -> io::Result<()> {
    let disk = Disk::open("disk-a").ok_or_else(|| io::Error::other("there is no disk"))?;
    let guest = Guest(disk);
    paravane_kernel::run(paravane_loads::run(&guest, std::env::args().skip(1)))
}
