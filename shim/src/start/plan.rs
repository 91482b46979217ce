//! Which physical memory is for what, and how it is mapped.
use super::error::StartError;
use crate::domain::Ram;
use crate::layout::largest;
use crate::machine::cpu;
use crate::machine::gate::hypercall_page;
use crate::machine::paging::{Frames, HostPage, PagingError, Tables, Use};
use crate::pvh::Area;
use core::ops::Range;
use paravane_abi::device::Device as Entry;
use paravane_abi::layout::{
    CONFIG, HYPERCALL_PAGE, PAGE_SIZE, RAM_BASE, RAM_SIZE_ALIGN, START_INFO, TIME_PAGE,
};
use paravane_abi::start_info::SEED_LEN;
use paravane_abi::time::{TimePage, TimeSnapshot};
use paravane_host::access::Access;
use paravane_host::bundle::Bundle;
use paravane_host::image::Image;
use paravane_host::space::AddressSpace;
use paravane_host::start_info::{self, Told};
use paravane_host::width::to_usize;
use zerocopy::IntoBytes;

/// Pages for tables besides those that grow with the guest, and for what the guest is told.
const PAGES_FIXED: u64 = 128;

const PAGE_LEN: usize = to_usize(PAGE_SIZE);

/// Bytes that one page table, and one directory of them, map.
const TABLE_SPAN: u64 = 2 << 20;
const DIRECTORY_SPAN: u64 = 1 << 30;

unsafe extern "C" {
    static __shim_start: u8;
    static __text_start: u8;
    static __data_start: u8;
    static __shim_end: u8;
}

/// What lies behind the shim, up to the end of the RAM that the shim lies in; `None` if the shim itself does
/// not fit there.
pub(super) fn payload(areas: &[Area]) -> Option<&'static [u8]> {
    let start = (&raw const __shim_end) as u64;
    let ends = areas.iter().filter(|area| area.is_ram).filter_map(|area| {
        let end = area.start.saturating_add(area.len);
        (area.start <= start && start < end).then_some(end)
    });
    let end = ends.max()?.min(1 << 32);
    // SAFETY: RAM, mapped one to one now and, as far as it is used, later; nobody writes there before
    // the plan says where the payload ends.
    Some(unsafe { core::slice::from_raw_parts(&raw const __shim_end, to_usize(end - start)) })
}

/// Which physical memory is for what.
pub(super) struct Plan {
    /// The shim and the payload.
    taken: Range<u64>,
    /// Page tables, and pages for the guest to read.
    frames: Range<u64>,
    /// The guest's RAM.
    ram: Range<u64>,
    pub(super) space: AddressSpace,
}

impl Plan {
    pub(super) fn new(
        areas: &[Area],
        bundle: &Bundle<'_>,
        image: &Image,
    ) -> Result<Self, StartError> {
        let end = |bytes: &[u8]| bytes.as_ptr_range().end as u64;
        let start = (&raw const __shim_start) as u64;
        let taken_end = end(bundle.image).max(end(bundle.config)).next_multiple_of(PAGE_SIZE);
        let frames = taken_end..taken_end + frames_len(areas, bundle, image);
        let holds = |area: &Area| {
            let area_end = area.start.saturating_add(area.len);
            area.is_ram && area.start <= start && frames.end <= area_end
        };
        if !areas.iter().any(holds) {
            return Err(StartError::NoRam);
        }
        let ram = largest(areas, &(start..frames.end));
        let space = AddressSpace::new(image, ram.end - ram.start)?;
        Ok(Self { taken: start..taken_end, frames, ram, space })
    }

    pub(super) fn tables(&self) -> Result<Tables, PagingError> {
        // SAFETY: nobody else uses this memory; it lies below 4 GiB, and `map` maps it.
        Tables::new(unsafe { Frames::new(self.frames.clone()) })
    }

    /// Maps the shim, the payload and the frames for the shim, and RAM for the guest.
    pub(super) fn map(&self, tables: &mut Tables) -> Result<(), PagingError> {
        let text = (&raw const __text_start) as u64;
        let data = (&raw const __data_start) as u64;
        let payload = (&raw const __shim_end) as u64;
        let parts = [
            (self.taken.start..text, Use::Constants),
            (text..data, Use::Code),
            (data..payload, Use::Data),
            (payload..self.taken.end, Use::Constants),
        ];
        for (part, usage) in parts {
            tables.map(part.start, part.start, part.end - part.start, usage)?;
        }
        tables.map_physical(self.frames.start, self.frames.end - self.frames.start, Use::Data)?;
        self.map_guest(tables)
    }

    /// Maps the guest's RAM: large pages where it is plain, small ones where access differs.
    fn map_guest(&self, tables: &mut Tables) -> Result<(), PagingError> {
        for block in (0..self.space.ram_size()).step_by(to_usize(RAM_SIZE_ALIGN)) {
            let is_plain = self.space.is_plain(block, RAM_SIZE_ALIGN);
            let step = if is_plain { RAM_SIZE_ALIGN } else { PAGE_SIZE };
            for offset in (block..block + RAM_SIZE_ALIGN).step_by(to_usize(step)) {
                let address = RAM_BASE + offset;
                let usage = Use::Guest(self.space.access(address));
                tables.map(address, self.ram.start + offset, step, usage)?;
            }
        }
        Ok(())
    }

    /// The guest's RAM, all zero.
    pub(super) fn ram(&self, tables: &mut Tables) -> Result<Ram, PagingError> {
        let size = self.space.ram_size();
        let base = tables.map_physical(self.ram.start, size, Use::Data)?;
        // SAFETY: mapped for ever, and nothing of the shim's lies there.
        let ram = unsafe { Ram::new(base, self.ram.start, size) };
        ram.clear();
        Ok(ram)
    }

    /// Writes the pages that the guest reads: start info, hypercalls, time, configuration.
    pub(super) fn tell(
        &self,
        tables: &mut Tables,
        bundle: &Bundle<'_>,
        devices: &[Entry],
        line: &TimeSnapshot,
    ) -> Result<(), StartError> {
        let mut seed = [0; SEED_LEN];
        cpu::fill_random(&mut seed)?;
        let told = Told {
            devices,
            ipv6: &super::devices::ipv6(devices, bundle),
            arguments: &bundle.arguments,
            config_len: bundle.config.len(),
            dma_offset: self.ram.start,
            seed,
        };
        let info = start_info::build(&self.space, &told)?;
        fill(tables.map_host_page(START_INFO, Access::Read)?, info.as_bytes());
        fill(tables.map_host_page(HYPERCALL_PAGE, Access::ReadExecute)?, &hypercall_page());
        let time = tables.map_host_page(TIME_PAGE, Access::Read)?;
        // SAFETY: the page is aligned and longer than the structure, which consists of atomics: all bytes
        // are valid.
        unsafe { &*time.as_mut_ptr().cast::<TimePage>() }.publish(line);
        for (address, chunk) in (CONFIG..).step_by(PAGE_LEN).zip(bundle.config.chunks(PAGE_LEN)) {
            fill(tables.map_host_page(address, Access::Read)?, chunk);
        }
        Ok(())
    }
}

/// Bytes for page tables and host pages: enough whatever the layout of the guest.
fn frames_len(areas: &[Area], bundle: &Bundle<'_>, image: &Image) -> u64 {
    let ram = areas.iter().filter(|area| area.is_ram).map(|area| area.len);
    let ram = ram.fold(0, u64::saturating_add);
    // RAM is mapped twice, for the guest and for the shim.
    let directories = 2 * ram.div_ceil(DIRECTORY_SPAN);
    let mixed = (image.end() + image.manifest().stacks_len()).div_ceil(TABLE_SPAN);
    let config_len = bundle.config.len() as u64;
    let payload = (bundle.image.len() as u64 + config_len).div_ceil(TABLE_SPAN);
    let config = config_len.div_ceil(PAGE_SIZE);
    (PAGES_FIXED + directories + mixed + payload + config) * PAGE_SIZE
}

fn fill(page: &mut HostPage, bytes: &[u8]) {
    page[..bytes.len()].copy_from_slice(bytes);
}
