//! What drivers need of the kernel: the devices of this machine, memory for rings and buffers, and the
//! hypercalls.
use crate::{hypercall, memory, start};
use core::alloc::Layout;
use core::ptr::NonNull;
use paravane_abi::device::{Attach, Device, DeviceKind};
use paravane_pv_drivers::{Dma, Transport, TransportError};

/// The devices of one kind, with their indices in the device table.
pub(crate) fn devices(kind: DeviceKind) -> impl Iterator<Item = (u32, &'static Device)> {
    let devices = (0..).zip(start::info().devices());
    devices.filter(move |(_, device)| DeviceKind::from_raw(device.kind) == Some(kind))
}

/// The heap, as memory for devices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeapDma;

// SAFETY: the heap gives each allocation to one owner, and it is zeroed here. All of it is RAM, which
// the contract maps linearly: virtual address - `ram_base` = device address - `dma_offset`. `reaches`
// affirms nothing but RAM.
unsafe impl Dma for HeapDma {
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let memory = NonNull::new(memory::allocate(layout))?;
        // SAFETY: the allocation has that many bytes.
        unsafe { memory.write_bytes(0, layout.size()) };
        Some(memory)
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: by the caller.
        unsafe { memory::deallocate(memory.as_ptr(), layout) }
    }

    /// The heap and the image are RAM. The pages of the host are not: what lies there is no device's
    /// to read.
    fn reaches(&self, bytes: &[u8]) -> bool {
        let info = start::info();
        let start = (bytes.as_ptr().expose_provenance() as u64).checked_sub(info.ram_base);
        let end = start.and_then(|start| start.checked_add(bytes.len() as u64));
        end.is_some_and(|end| end <= info.ram_size)
    }

    fn device_address(&self, memory: NonNull<u8>) -> u64 {
        let info = start::info();
        memory.as_ptr().expose_provenance() as u64 - info.ram_base + info.dma_offset
    }
}

/// The hypercalls that drivers make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hypercalls;

impl Transport for Hypercalls {
    unsafe fn attach(&self, attach: &Attach) -> Result<(), TransportError> {
        // SAFETY: by the caller.
        unsafe { hypercall::attach(attach) }.map_err(|error| TransportError(error.to_result()))
    }

    fn notify(&self, device: u32, queue: u16) {
        // It fails only for a device that is not attached, which a driver does not notify.
        let result = hypercall::notify(device, queue);
        debug_assert_eq!(result, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_host::{End, FakeHost};

    #[test]
    fn devices_reach_ram_and_nothing_else() {
        let (end, _) = FakeHost::new().run("", || {
            let (base, size) = (start::info().ram_base, start::info().ram_size);
            let check = |address: u64, len: usize, expect: bool| {
                let start = core::ptr::with_exposed_provenance(crate::to_usize(address));
                // SAFETY: in RAM, of which nothing is used here, or not looked at.
                let bytes = unsafe { core::slice::from_raw_parts(start, len) };
                assert_eq!(HeapDma.reaches(bytes), expect, "{len} bytes at {address:#x}");
            };
            check(base, 1, true);
            check(base, crate::to_usize(size), true);
            check(base + size - 1, 1, true);
            check(base + size - 1, 2, false);
            check(base - 1, 2, false);
            check(start::info().time_page, 8, false);
            let memory = HeapDma.allocate(Layout::new::<u64>()).expect("there is memory");
            let address = HeapDma.device_address(memory);
            assert_eq!(address, memory.addr().get() as u64 - base + start::info().dma_offset);
        });
        assert_eq!(end, End::Returned);
    }
}
