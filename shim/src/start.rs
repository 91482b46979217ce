//! From the loader's start info to the guest's first instruction.
use crate::domain::{Clock, Domain, Ram, Stop};
use crate::layout::largest;
use crate::machine::apic::{Apic, ApicError};
use crate::machine::clock::{self, NoTimer};
use crate::machine::cpu::{self, CpuError};
use crate::machine::gate::{enter, hypercall_page, open};
use crate::machine::interrupts::{self, DEVICE_VECTOR, SERIAL_VECTOR};
use crate::machine::paging::{Frames, PagingError, Tables, Use};
use crate::machine::{Identity, power, segments, serial};
use crate::pvh::{Area, PvhError, Told};
use crate::virtio::pci::Ports;
use crate::virtio::{self, Device, DiscoverError, Interrupt, Registers, Window};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Arguments, Write};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use paravane_abi::device::{Device as Entry, DeviceKind, SECTOR_SIZE};
use paravane_abi::layout::{
    CONFIG, HYPERCALL_PAGE, PAGE_SIZE, RAM_BASE, RAM_SIZE_ALIGN, START_INFO, TIME_PAGE,
};
use paravane_abi::time::TimePage;
use paravane_host::access::Access;
use paravane_host::bundle::{Bundle, BundleError};
use paravane_host::image::{Image, ImageError};
use paravane_host::space::{AddressSpace, TooSmall};
use paravane_host::start_info::{self, StartInfoError};
use paravane_host::status::Status;
use zerocopy::IntoBytes;

/// What the guest calls its network device's role.
const NET_TAG: &[u8] = b"net";

/// Pages for tables besides those that grow with the guest, and for what the guest is told.
const PAGES_FIXED: u64 = 128;

/// Why no guest is started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Pvh(#[from] PvhError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Cpu(#[from] CpuError),
    #[error("the bundle does not fit into the machine's RAM ({have} of {need} bytes): give it more (QEMU: -m)")]
    NoRoom { have: u64, need: u64 },
    #[error("{0}: give the machine more (QEMU: -m)")]
    TooSmall(#[from] TooSmall),
    #[error("the machine has no free RAM for the guest: give it more (QEMU: -m)")]
    NoRam,
    #[error(transparent)]
    Paging(#[from] PagingError),
    #[error(transparent)]
    Apic(#[from] ApicError),
    #[error(transparent)]
    Timer(#[from] NoTimer),
    #[error(transparent)]
    Devices(#[from] DiscoverError),
    #[error(transparent)]
    StartInfo(#[from] StartInfoError),
    #[error("the image {image} needs a {device} device, and the machine has none (QEMU: {remedy})")]
    MissingDevice { image: String, device: &'static str, remedy: &'static str },
    #[error("the bundle's disk is truncated: {have} of {need} bytes")]
    TruncatedDisk { have: u64, need: u64 },
}

impl StartError {
    fn status(&self) -> Status {
        match self {
            Self::Bundle(_) | Self::Image(_) | Self::StartInfo(_) => Status::IMAGE,
            _ => Status::HOST,
        }
    }
}

unsafe extern "C" {
    static __shim_start: u8;
    static __text_start: u8;
    static __data_start: u8;
    static __shim_end: u8;
}

/// What the machine's boot code calls, with the physical address of the loader's start info, on a stack of its
/// own and with the first 4 GiB mapped one to one. Called once.
pub extern "C" fn start(info: u32) -> ! {
    serial::start();
    let Err(error) = run(info);
    say(format_args!("{error}"));
    end(error.status())
}

/// Ends the machine because of a defect of the shim's own.
pub fn fail(what: Arguments<'_>) -> ! {
    static FAILED: AtomicBool = AtomicBool::new(false);
    // A failure while failing is told no more.
    if !FAILED.swap(true, Ordering::Relaxed) {
        say(format_args!("the shim failed: {what}"));
    }
    end(Status::INTERNAL)
}

/// Ends the machine, with the status on the last line.
pub(crate) fn end(status: Status) -> ! {
    say(format_args!("exit status {status}"));
    power::off(status.code())
}

/// Writes one line, or a report of several, to the serial line.
pub(crate) fn say(text: Arguments<'_>) {
    // The line takes everything.
    let _ = writeln!(serial::Line, "paravane: {text}");
}

fn run(info: u32) -> Result<core::convert::Infallible, StartError> {
    // SAFETY: the boot code's tables are in use until `activate` below, and `told` is a copy.
    let told = Told::read(&unsafe { Identity::new() }, info.into())?;
    cpu::check()?;
    let payload = payload(&told.memory);
    let bundle = Bundle::parse(payload).map_err(refusal)?;
    let image = Image::read(bundle.image)?;
    let plan = Plan::new(&told.memory, &bundle, &image)?;

    let mut tables = plan.tables()?;
    plan.map(&mut tables)?;
    let selectors = segments::load();
    interrupts::load();
    open(&selectors);
    // SAFETY: the shim's code, data and stack are mapped where they are, the frames too; the guest's
    // memory is reached at addresses of the shim's own.
    unsafe {
        tables.activate();
        cpu::set_modes();
    }
    let apic = Apic::new(&mut tables)?;
    let rates = clock::rates(&apic)?;
    let devices = discover(&told.command_line, &mut tables)?;
    let entries = describe(&devices, &bundle);
    check_devices(&image, &entries, &bundle)?;
    route(&apic, &devices)?;

    let ram = plan.ram(&mut tables)?;
    load(&image, bundle.image, &ram);
    let clock = Clock::new(rates, bundle.watchdog_seconds);
    plan.tell(&mut tables, &bundle, &entries, clock.line())?;
    let entry_stack = plan.space.entry_stack();
    let domain = Box::leak(Box::new(Domain {
        name: image.manifest().name().to_owned(),
        image: bundle.image,
        space: plan.space,
        ram,
        devices,
        clock,
        apic,
        stop: Stop::default(),
    }));
    serial::enable_interrupt();
    // SAFETY: all of the above.
    unsafe { enter(domain, image.entry(), entry_stack, START_INFO) }
}

/// The loader put the whole payload behind the shim: when RAM ends before the payload does, RAM is short.
fn refusal(error: BundleError) -> StartError {
    match error {
        BundleError::Truncated { have, need } => StartError::NoRoom { have, need },
        other => other.into(),
    }
}

/// What lies behind the shim, up to the end of the RAM that the shim lies in.
fn payload(areas: &[Area]) -> &'static [u8] {
    let start = (&raw const __shim_end) as u64;
    let ends = areas.iter().filter(|area| area.is_ram).filter_map(|area| {
        let end = area.start.saturating_add(area.len);
        (area.start <= start && start < end).then_some(end)
    });
    let end = ends.max().unwrap_or(start).min(1 << 32);
    let len = usize::try_from(end - start).unwrap_or(0);
    // SAFETY: RAM, mapped one to one now and, as far as it is used, later; nobody writes there.
    unsafe { core::slice::from_raw_parts(&raw const __shim_end, len) }
}

/// Which physical memory is for what.
struct Plan {
    /// The shim and the payload.
    taken: Range<u64>,
    /// Page tables, and pages for the guest to read.
    frames: Range<u64>,
    /// The guest's RAM.
    ram: Range<u64>,
    space: AddressSpace,
}

impl Plan {
    fn new(areas: &[Area], bundle: &Bundle<'_>, image: &Image) -> Result<Self, StartError> {
        let end = |bytes: &[u8]| bytes.as_ptr_range().end as u64;
        let start = (&raw const __shim_start) as u64;
        let taken_end = end(bundle.image).max(end(bundle.config)).next_multiple_of(PAGE_SIZE);
        let frames = taken_end..taken_end + frames_len(areas, bundle, image);
        let lies_in_ram = |area: &&Area| {
            area.is_ram && area.start <= start && frames.end <= area.start.saturating_add(area.len)
        };
        areas.iter().find(lies_in_ram).ok_or(StartError::NoRam)?;
        let ram = largest(areas, &(start..frames.end));
        if ram.is_empty() {
            return Err(StartError::NoRam);
        }
        let space = AddressSpace::new(image, ram.end - ram.start)?;
        Ok(Self { taken: start..taken_end, frames, ram, space })
    }

    fn tables(&self) -> Result<Tables, PagingError> {
        // SAFETY: nobody else uses this memory; it lies below 4 GiB, and `map` maps it.
        Tables::new(unsafe { Frames::new(self.frames.clone()) })
    }

    /// Maps the shim, the payload and the frames for the shim, and RAM for the guest.
    fn map(&self, tables: &mut Tables) -> Result<(), PagingError> {
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
        tables.map_frames(&self.frames)?;
        self.map_guest(tables)
    }

    /// Maps the guest's RAM: large pages where it is plain, small ones where access differs.
    fn map_guest(&self, tables: &mut Tables) -> Result<(), PagingError> {
        for block in (0..self.space.ram_size()).step_by(RAM_SIZE_ALIGN as usize) {
            let is_plain = self.space.is_plain(block, RAM_SIZE_ALIGN);
            let step = if is_plain { RAM_SIZE_ALIGN } else { PAGE_SIZE };
            for offset in (block..block + RAM_SIZE_ALIGN).step_by(step as usize) {
                let address = RAM_BASE + offset;
                let usage = Use::Guest(self.space.access(address));
                tables.map(address, self.ram.start + offset, step, usage)?;
            }
        }
        Ok(())
    }

    fn ram(&self, tables: &mut Tables) -> Result<Ram, PagingError> {
        let size = self.space.ram_size();
        let base = tables.map_physical(self.ram.start, size, Use::Data)?;
        // SAFETY: mapped for ever, and nothing of the shim's lies there.
        let ram = unsafe { Ram::new(base, self.ram.start, size) };
        ram.clear();
        Ok(ram)
    }

    /// Writes the pages that the guest reads: start info, hypercalls, time, configuration.
    fn tell(
        &self,
        tables: &mut Tables,
        bundle: &Bundle<'_>,
        devices: &[Entry],
        line: &paravane_abi::time::TimeSnapshot,
    ) -> Result<(), StartError> {
        let mut seed = [0; paravane_abi::start_info::SEED_LEN];
        cpu::fill_random(&mut seed)?;
        let told = start_info::Told {
            devices,
            arguments: &bundle.arguments,
            config_len: bundle.config.len(),
            dma_offset: self.ram.start,
            seed,
        };
        let info = start_info::build(&self.space, &told)?;
        fill(tables.map_host_page(START_INFO, Access::Read)?, info.as_bytes());
        fill(tables.map_host_page(HYPERCALL_PAGE, Access::ReadExecute)?, &hypercall_page());
        let time = tables.map_host_page(TIME_PAGE, Access::Read)?;
        // SAFETY: a zeroed page of its own, of atomics only.
        unsafe { time.cast::<TimePage>().as_ref() }.publish(line);
        for (address, chunk) in
            (CONFIG..).step_by(PAGE_SIZE as usize).zip(bundle.config.chunks(PAGE_SIZE as usize))
        {
            fill(tables.map_host_page(address, Access::Read)?, chunk);
        }
        Ok(())
    }
}

/// Bytes for page tables and host pages: enough whatever the layout of the guest.
fn frames_len(areas: &[Area], bundle: &Bundle<'_>, image: &Image) -> u64 {
    const TABLE_SPAN: u64 = 2 << 20;
    const DIRECTORY_SPAN: u64 = 1 << 30;
    let ram: u64 = areas.iter().filter(|a| a.is_ram).fold(0, |sum, a| sum.saturating_add(a.len));
    // RAM is mapped twice, for the guest and for the shim.
    let directories = 2 * ram.div_ceil(DIRECTORY_SPAN);
    let mixed = (image.end() + image.manifest().stacks_len()).div_ceil(TABLE_SPAN);
    let payload = (bundle.image.len() + bundle.config.len()) as u64;
    let pages = PAGES_FIXED + directories + mixed + 2 * payload.div_ceil(TABLE_SPAN);
    (pages + payload_pages(bundle)) * PAGE_SIZE
}

fn payload_pages(bundle: &Bundle<'_>) -> u64 {
    (bundle.config.len() as u64).div_ceil(PAGE_SIZE)
}

fn fill(page: NonNull<u8>, bytes: &[u8]) {
    let len = bytes.len().min(PAGE_SIZE as usize);
    // SAFETY: a page of the shim's own, no longer than that.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), page.as_ptr(), len) };
}

fn discover(command_line: &str, tables: &mut Tables) -> Result<Vec<Device>, DiscoverError> {
    let mut map = |physical, len| -> Option<Box<dyn Registers>> {
        let base = tables.map_physical(physical, len, Use::Device).ok()?;
        // SAFETY: mapped for ever, and a device's: firmware or the machine's monitor says so.
        Some(Box::new(unsafe { Window::new(base, len) }))
    };
    // SAFETY: ring 0, and nobody else uses the ports.
    let mut ports = unsafe { Ports::detect() };
    let pci = ports.as_mut().map(|ports| ports as &mut dyn virtio::pci::Configuration);
    virtio::discover(command_line, pci, &mut map)
}

/// The device table: what the devices say, and what the operator calls them.
fn describe(devices: &[Device], bundle: &Bundle<'_>) -> Vec<Entry> {
    let mut disks = bundle.disks.iter();
    let describe = |device: &Device| {
        let mut entry = *device.entry();
        match device.kind() {
            DeviceKind::Net => {
                entry.tag[..NET_TAG.len()].copy_from_slice(NET_TAG);
                entry.net.ipv4_address = bundle.ipv4.address;
                entry.net.ipv4_gateway = bundle.ipv4.gateway;
                entry.net.ipv4_dns = bundle.ipv4.dns;
                entry.net.ipv4_prefix_len = bundle.ipv4.prefix_len;
            }
            DeviceKind::Block => entry.tag = disks.next().copied().unwrap_or_default(),
        }
        entry
    };
    devices.iter().map(describe).collect()
}

fn check_devices(image: &Image, devices: &[Entry], bundle: &Bundle<'_>) -> Result<(), StartError> {
    if let Some(kind) = paravane_host::devices::missing(image.manifest(), devices) {
        let (device, remedy) = match kind {
            DeviceKind::Net => ("network", "-netdev and -device virtio-net-device or virtio-net-pci"),
            DeviceKind::Block => ("block", "-drive and -device virtio-blk-device or virtio-blk-pci"),
        };
        let image = image.manifest().name().to_owned();
        return Err(StartError::MissingDevice { image, device, remedy });
    }
    let own = devices.iter().find(|d| d.kind == DeviceKind::Block as u32);
    let have = own.map_or(u64::MAX, |d| d.block.capacity.saturating_mul(SECTOR_SIZE));
    let need = bundle.file_len;
    if bundle.is_own_disk && have < need {
        return Err(StartError::TruncatedDisk { have, need });
    }
    Ok(())
}

/// Gives every device a vector of its own, and the serial line one.
fn route(apic: &Apic, devices: &[Device]) -> Result<(), ApicError> {
    for (vector, device) in (DEVICE_VECTOR..).zip(devices) {
        match device.interrupt() {
            Interrupt::Line(line) => apic.route_line(line, vector)?,
            Interrupt::Message => {
                let (address, data) = apic.message(vector);
                device.route_message(address, data);
            }
        }
    }
    apic.route_line(serial::IRQ, SERIAL_VECTOR)
}

/// Copies the image's segments to RAM, which is all zero.
fn load(image: &Image, file: &[u8], ram: &Ram) {
    for segment in image.segments() {
        let start = usize::try_from(segment.file_offset).unwrap_or(usize::MAX);
        let len = usize::try_from(segment.file_len).unwrap_or(usize::MAX);
        let bytes = file.get(start..).and_then(|rest| rest.get(..len)).unwrap_or(&[]);
        // The loader found the segments to lie in the file, the address space the image to lie in RAM.
        let _ = ram.write(segment.address - RAM_BASE, bytes);
    }
}
