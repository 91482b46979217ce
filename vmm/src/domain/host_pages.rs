//! The pages that the host supplies: start info, hypercall page, time page, configuration.
use super::map;
use paravane_abi::layout::{CONFIG, HYPERCALL_PAGE, PAGE_SIZE, START_INFO, TIME_PAGE};
use paravane_abi::time::TimePage;
use paravane_host::width::to_usize;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::io;
use std::ptr::NonNull;

/// The host's pages, mapped twice: at the guest's addresses, where nothing can write them, and at an
/// address of the host's own, where the host does.
#[derive(Debug)]
pub struct HostPages {
    /// The writable alias of the range that starts at [`START_INFO`].
    alias: NonNull<u8>,
    len: usize,
}

/// Maps `len` bytes of the host's pages at the guest's address `address`, read-only.
fn map_for_guest(file: &OwnedFd, address: u64, len: usize) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let fixed = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
    let offset = address - START_INFO;
    // SAFETY: FIXED_NOREPLACE replaces no existing mapping.
    unsafe { rustix::mm::mmap(address as *mut _, len, ProtFlags::READ, fixed, file, offset)? };
    Ok(())
}

impl HostPages {
    /// Maps the pages with room for `config_len` bytes of configuration; all zero.
    ///
    /// # Errors
    /// The host has no memory, or the addresses are taken.
    pub fn new(config_len: usize) -> io::Result<Self> {
        let config_pages = config_len.next_multiple_of(to_usize(PAGE_SIZE));
        let len = to_usize(CONFIG - START_INFO) + config_pages;
        let file = memfd_create("paravane-host-pages", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no fixed address: the kernel picks one that is free.
        let alias = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, writable, MapFlags::SHARED, &file, 0)?
        };
        map_for_guest(&file, START_INFO, to_usize(TIME_PAGE + PAGE_SIZE - START_INFO))?;
        map_for_guest(&file, CONFIG, config_pages)?;
        let alias = NonNull::new(alias.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { alias, len })
    }

    /// Makes the hypercall page executable in this process, for the guest that runs in it.
    ///
    /// # Errors
    /// The host forbids it.
    pub fn make_hypercall_page_executable(&self) -> io::Result<()> {
        let prot = MprotectFlags::READ | MprotectFlags::EXEC;
        // SAFETY: the page belongs to this object, and no Rust code refers to it.
        unsafe { map::protect(HYPERCALL_PAGE, PAGE_SIZE, prot) }
    }

    /// Address and length of the writable alias; `START_INFO + i` is the alias' byte `i`.
    #[must_use]
    pub fn alias(&self) -> (NonNull<u8>, usize) {
        (self.alias, self.len)
    }

    /// The time page, for the host to publish in.
    #[must_use]
    pub fn time_page(&self) -> &TimePage {
        // SAFETY: the alias is mapped for as long as the process lives, the offset is within it and
        // page-aligned, and `TimePage` consists of atomics, for which all bytes are valid.
        unsafe { self.at(TIME_PAGE).cast::<TimePage>().as_ref() }
    }

    /// Copies `bytes` to the host page at virtual address `address`.
    ///
    /// # Panics
    /// If the bytes do not lie within the host pages: a defect of the VMM.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        let end = to_usize(address - START_INFO) + bytes.len();
        assert!(end <= self.len, "host pages are written within their bounds");
        // SAFETY: in bounds by the assertion; the alias is not borrowed as Rust memory anywhere but
        // in `time_page`, whose page is written only through its atomics.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(address).as_ptr(), bytes.len());
        }
    }

    fn at(&self, address: u64) -> NonNull<u8> {
        // SAFETY: callers keep the address within the pages.
        unsafe { self.alias.add(to_usize(address - START_INFO)) }
    }
}
