//! Page protection by virtual address.
use paravane_host::access::Access;
use rustix::mm::{MprotectFlags, mprotect};
use std::io;

/// Sets the protection of pages of this process.
///
/// # Safety
/// No Rust reference may point into the pages that would be invalid under the new protection.
pub(crate) unsafe fn protect(address: u64, len: u64, prot: MprotectFlags) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the caller vouches for the pages.
    unsafe { mprotect(address as *mut _, len, prot) }.map_err(io::Error::from)
}

/// The protection bits that give a guest in this process `access`.
pub(crate) fn protection(access: Access) -> MprotectFlags {
    match access {
        Access::None => MprotectFlags::empty(),
        Access::Read => MprotectFlags::READ,
        Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
        Access::ReadExecute => MprotectFlags::READ | MprotectFlags::EXEC,
    }
}
