//! Page tables.
//!
//! The shim lies at its physical addresses, each page with the rights that its code or data needs. Other
//! physical memory that it uses is mapped at [`PHYSICAL`] + address; the guest sees none of that.
use core::ops::Range;
use core::ptr::NonNull;
use paravane_abi::layout::PAGE_SIZE;
use paravane_host::access::Access;
use paravane_host::width::to_usize;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::page::PageSize;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// Where physical address 0 is mapped.
pub const PHYSICAL: u64 = 0xffff_8000_0000_0000;

/// Physical addresses have at most as many bits as fit between [`PHYSICAL`] and the end.
const PHYSICAL_END: u64 = 1 << 46;

/// Memory cannot be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PagingError {
    /// No frame is left for a table.
    #[error("there is not enough memory for page tables")]
    NoFrames,
    /// Beyond what can be mapped, or mapped otherwise already.
    #[error("physical address {0:#x} cannot be mapped")]
    Address(u64),
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The shim's code.
    Code,
    /// What the shim reads.
    Constants,
    /// What the shim reads and writes.
    Data,
    /// Registers of a device: not cached.
    Device,
    /// The guest's.
    Guest(Access),
}

impl Use {
    /// `None`: not mapped at all.
    fn flags(self) -> Option<PageTableFlags> {
        use PageTableFlags as Flags;
        let never_executed = Flags::PRESENT | Flags::NO_EXECUTE;
        Some(match self {
            Self::Code => Flags::PRESENT,
            Self::Constants => never_executed,
            Self::Data => never_executed | Flags::WRITABLE,
            Self::Device => {
                never_executed | Flags::WRITABLE | Flags::NO_CACHE | Flags::WRITE_THROUGH
            }
            Self::Guest(Access::None) => return None,
            Self::Guest(Access::Read) => never_executed | Flags::USER_ACCESSIBLE,
            Self::Guest(Access::ReadWrite) => {
                never_executed | Flags::WRITABLE | Flags::USER_ACCESSIBLE
            }
            Self::Guest(Access::ReadExecute) => Flags::PRESENT | Flags::USER_ACCESSIBLE,
        })
    }
}

/// Physical memory for page tables and host pages, handed out once.
#[derive(Debug)]
pub struct Frames(Range<u64>);

impl Frames {
    /// Hands out the whole pages of `range`.
    ///
    /// # Safety
    /// Nobody else uses that physical memory, and it can be reached through the [`Tables`] that get these
    /// frames: one to one before their activation, at [`PHYSICAL`] afterwards.
    #[must_use]
    pub unsafe fn new(range: Range<u64>) -> Self {
        let start = range.start.next_multiple_of(PAGE_SIZE);
        Self(start..range.end - range.end % PAGE_SIZE)
    }

    fn take(&mut self) -> Option<u64> {
        let frame = self.0.start;
        self.0.start = frame.checked_add(PAGE_SIZE).filter(|&next| next <= self.0.end)?;
        Some(frame)
    }
}

// SAFETY: every frame is handed out once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        self.take().map(|frame| PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

/// A page that the shim fills and the guest reads.
pub type HostPage = [u8; to_usize(PAGE_SIZE)];

/// The page tables of the machine.
#[derive(Debug)]
pub struct Tables {
    root: PhysFrame,
    frames: Frames,
    /// What to add to a frame's address to reach it.
    offset: u64,
}

impl Tables {
    /// Empty tables, not in use yet.
    ///
    /// # Errors
    /// There is no frame.
    pub fn new(mut frames: Frames) -> Result<Self, PagingError> {
        let root = frames.allocate_frame().ok_or(PagingError::NoFrames)?;
        let mut tables = Self { root, frames, offset: 0 };
        tables.root_table().zero();
        Ok(tables)
    }

    /// Maps `len` bytes of physical memory at `physical` to `address`; whole pages, as large as they can be.
    ///
    /// # Errors
    /// No memory is left for tables, or something else is mapped there.
    pub fn map(
        &mut self,
        address: u64,
        physical: u64,
        len: u64,
        usage: Use,
    ) -> Result<(), PagingError> {
        let Some(flags) = usage.flags() else { return Ok(()) };
        let mut done = 0;
        while done < len {
            let (at, from) = (address + done, physical + done);
            let large = (at | from).is_multiple_of(Size2MiB::SIZE) && len - done >= Size2MiB::SIZE;
            done += if large {
                self.map_page::<Size2MiB>(at, from, flags)?;
                Size2MiB::SIZE
            } else {
                self.map_page::<Size4KiB>(at, from, flags)?;
                Size4KiB::SIZE
            };
        }
        Ok(())
    }

    fn map_page<S: PageSize + core::fmt::Debug>(
        &mut self,
        address: u64,
        physical: u64,
        flags: PageTableFlags,
    ) -> Result<(), PagingError>
    where
        for<'a> OffsetPageTable<'a>: Mapper<S>,
    {
        let bad = PagingError::Address(physical);
        let page = Page::<S>::containing_address(VirtAddr::try_new(address).map_err(|_| bad)?);
        let frame = PhysFrame::containing_address(PhysAddr::try_new(physical).map_err(|_| bad)?);
        let (mut mapper, frames) = self.mapper();
        // SAFETY: the shim maps each piece of memory for one user; pages that the guest and the shim
        // share are accessed by the shim through raw pointers only.
        let mapped = unsafe { mapper.map_to(page, frame, flags, frames) };
        match mapped {
            Ok(flush) => flush.flush(),
            Err(MapToError::FrameAllocationFailed) => return Err(PagingError::NoFrames),
            // Two devices in one page.
            Err(MapToError::PageAlreadyMapped(old)) if old == frame => {}
            Err(_) => return Err(bad),
        }
        Ok(())
    }

    /// Maps physical memory for the shim itself; the result is where.
    ///
    /// # Errors
    /// See [`Tables::map`].
    pub fn map_physical(
        &mut self,
        physical: u64,
        len: u64,
        usage: Use,
    ) -> Result<NonNull<u8>, PagingError> {
        let bad = PagingError::Address(physical);
        let start = physical - physical % PAGE_SIZE;
        let end = physical.checked_add(len).filter(|&end| end <= PHYSICAL_END).ok_or(bad)?;
        let end = end.next_multiple_of(PAGE_SIZE);
        self.map(PHYSICAL + start, start, end - start, usage)?;
        NonNull::new((PHYSICAL + physical) as *mut u8).ok_or(bad)
    }

    /// A zeroed page for the guest to see at `address`, for the shim to write.
    ///
    /// # Errors
    /// See [`Tables::map`].
    pub fn map_host_page(
        &mut self,
        address: u64,
        access: Access,
    ) -> Result<&'static mut HostPage, PagingError> {
        let frame = self.frames.take().ok_or(PagingError::NoFrames)?;
        self.map(address, frame, PAGE_SIZE, Use::Guest(access))?;
        let page = (self.offset + frame) as *mut HostPage;
        // SAFETY: a frame of its own that is never given out again, reachable at this address and aligned;
        // zeroed before the reference is made. The guest only reads it, and does not run yet.
        unsafe {
            page.write_bytes(0, 1);
            Ok(&mut *page)
        }
    }

    /// Uses these tables from now on.
    ///
    /// # Safety
    /// They map the running code, its stack and data where they are, and all frames at [`PHYSICAL`].
    pub unsafe fn activate(&mut self) {
        // SAFETY: the caller's promise.
        unsafe { Cr3::write(self.root, Cr3Flags::empty()) };
        self.offset = PHYSICAL;
    }

    fn root_table(&mut self) -> &'static mut PageTable {
        let address = self.offset + self.root.start_address().as_u64();
        // SAFETY: a frame of these tables' own, reachable at this address; the reference lives no longer
        // than the exclusive borrow of the callers.
        unsafe { &mut *(address as *mut PageTable) }
    }

    fn mapper(&mut self) -> (OffsetPageTable<'_>, &mut Frames) {
        let offset = VirtAddr::new(self.offset);
        // SAFETY: every table is a frame of `frames`, reachable at this offset.
        let mapper = unsafe { OffsetPageTable::new(self.root_table(), offset) };
        (mapper, &mut self.frames)
    }
}
