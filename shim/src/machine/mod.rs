//! The machine that the shim runs on: everything that needs privilege level 0, and nothing else.
pub mod apic;
pub mod clock;
pub mod cpu;
pub mod gate;
pub mod interrupts;
pub mod paging;
pub mod power;
pub mod segments;
pub mod serial;

use crate::pvh::PhysicalMemory;

/// Physical memory below 4 GiB, as long as it is mapped one to one: until the shim's own tables are in use.
#[derive(Debug)]
pub struct Identity(());

impl Identity {
    /// The boot code's mapping.
    ///
    /// # Safety
    /// It is in use for as long as this value is.
    #[must_use]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

impl PhysicalMemory for Identity {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let end = address.checked_add(buffer.len() as u64);
        if address == 0 || end.is_none_or(|end| end > 1 << 32) {
            return false;
        }
        // SAFETY: mapped one to one, as `new` promises; whatever lies there can be read as bytes.
        unsafe {
            core::ptr::copy_nonoverlapping(address as *const u8, buffer.as_mut_ptr(), buffer.len());
        }
        true
    }
}
