//! Pages by virtual address: what is mapped there, and its protection.
use paravane_host::access::Access;
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mprotect};
use std::io;
use std::ops::Range;

/// Maps the file's bytes from `offset` on in place of `pages`, both at page boundaries; what is written
/// there stays private.
///
/// # Safety
/// The pages hold nothing that anybody needs, and no Rust reference points into them.
pub(crate) unsafe fn map_file(
    file: impl AsFd,
    offset: u64,
    pages: Range<u64>,
    access: Access,
) -> io::Result<()> {
    let len = usize::try_from(pages.end - pages.start).map_err(io::Error::other)?;
    let prot = ProtFlags::from_bits_retain(protection(access).bits());
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: the caller vouches for the pages.
    unsafe { rustix::mm::mmap(pages.start as *mut _, len, prot, flags, file, offset)? };
    Ok(())
}

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
