//! From an image and the operator's wishes to a domain.
use super::clock::{Clock, Sample};
use super::hypercall::fill_random;
use super::polling::Polling;
use super::{Domain, HostPages, Slot, Ties, console::Console, map};
use crate::devices::Device;
use crate::image_file::ImageFile;
use crate::memory::GuestRam;
use paravane_abi::device::{Device as TableEntry, DeviceKind};
use paravane_abi::layout::{CONFIG, PAGE_SIZE, RAM_BASE, START_INFO};
use paravane_abi::start_info::{SEED_LEN, StartInfo};
use paravane_host::access::Access;
use paravane_host::image::{Image, Segment};
use paravane_host::space::{AddressSpace, TooSmall};
use paravane_host::start_info::{self, StartInfoError, Told};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;
use zerocopy::IntoBytes;

/// A domain that can be built: everything was checked, nothing is mapped yet.
#[derive(Debug)]
pub struct Plan {
    file: ImageFile,
    image: Image,
    space: AddressSpace,
    start_info: Box<StartInfo>,
    config: Vec<u8>,
    devices: Vec<Box<dyn Device>>,
    polling: Polling,
}

/// Why a domain cannot be planned: the image and the operator's wishes do not go together.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The image needs more memory.
    #[error("{0}: use --memory")]
    TooSmall(#[from] TooSmall),
    /// What the operator hands to the guest does not fit.
    #[error(transparent)]
    StartInfo(#[from] StartInfoError),
    /// A device that the image requires was not given.
    #[error("the image {image} needs a {device} device: give {flag}")]
    MissingDevice {
        /// Name of the image.
        image: String,
        /// What is missing.
        device: &'static str,
        /// The flag that gives it.
        flag: &'static str,
    },
}

/// Why a domain cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No memory, or the addresses are taken.
    #[error("the guest's memory cannot be mapped: {0}")]
    Map(#[source] io::Error),
    /// The image file changed or cannot be read.
    #[error("the image cannot be loaded: {0}")]
    Load(#[source] io::Error),
}

impl Plan {
    /// Plans a domain: `image` as read from `file`, `ram_size` bytes of RAM, these devices,
    /// arguments and configuration.
    ///
    /// # Errors
    /// They do not go together.
    pub fn new(
        file: ImageFile,
        image: Image,
        ram_size: u64,
        devices: Vec<Box<dyn Device>>,
        arguments: &[String],
        config: Vec<u8>,
    ) -> Result<Self, PlanError> {
        let space = AddressSpace::new(&image, ram_size)?;
        let table: Vec<_> = devices.iter().map(|device| device.entry()).collect();
        check_devices(&image, &table)?;
        let mut seed = [0; SEED_LEN];
        fill_random(&mut seed);
        let config_len = config.len();
        let ipv6: Vec<_> = devices.iter().map(|device| device.ipv6()).collect();
        let told =
            Told { devices: &table, ipv6: &ipv6, arguments, config_len, dma_offset: 0, seed };
        let start_info = start_info::build(&space, &told)?;
        let polling = Polling::new(Duration::ZERO);
        Ok(Self { file, image, space, start_info, config, devices, polling })
    }

    /// Lets the domain look for news for up to `max` before it sleeps, as long as that pays.
    #[must_use]
    pub fn polling(self, max: Duration) -> Self {
        Self { polling: Polling::new(max), ..self }
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The image's file.
    #[must_use]
    pub fn file(&self) -> &ImageFile {
        &self.file
    }

    /// Which page the guest may use how.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The descriptors that building and running the domain needs.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut descriptors = vec![self.file.as_raw_fd()];
        for device in &self.devices {
            device.descriptors(&mut descriptors);
        }
        descriptors
    }

    /// Maps the domain in this process and loads the image. `early` is as for [`Clock::new`].
    ///
    /// # Errors
    /// The host has no memory, or the image can no longer be read.
    pub fn build(self, ties: Ties, early: Sample) -> Result<Domain, BuildError> {
        let ram = GuestRam::new(self.space.ram_size()).map_err(BuildError::Map)?;
        for segment in self.image.segments() {
            load(&self.file, segment).map_err(BuildError::Load)?;
        }
        protect(&self.space).map_err(BuildError::Map)?;
        let mut host_pages = HostPages::new(self.config.len()).map_err(BuildError::Map)?;
        host_pages.write(START_INFO, self.start_info.as_bytes());
        host_pages.write(CONFIG, &self.config);
        let slot =
            |device: Box<dyn Device>| Slot { entry: device.entry(), device, attached: false };
        Ok(Domain {
            ram,
            space: self.space,
            host_pages,
            entry: self.image.entry(),
            devices: self.devices.into_iter().map(slot).collect(),
            clock: Clock::new(early),
            console: Console::default(),
            ties,
            stop_told: false,
            polling: self.polling,
            interests: Vec::new(),
        })
    }
}

fn check_devices(image: &Image, table: &[TableEntry]) -> Result<(), PlanError> {
    let Some(kind) = paravane_host::devices::missing(image.manifest(), table) else {
        return Ok(());
    };
    let (device, flag) = match kind {
        DeviceKind::Net => ("network", "--net user or --net tap"),
        DeviceKind::Block => ("block", "--disk PATH, or --site PATH for a site"),
    };
    let image = image.manifest().name().to_owned();
    Err(PlanError::MissingDevice { image, device, flag })
}

/// Puts a segment where it belongs. What the guest cannot write is mapped, so that all guests of an image
/// share its pages; see docs/decisions/0011.
fn load(file: &ImageFile, segment: &Segment) -> io::Result<()> {
    let is_constant = segment.access != Access::ReadWrite && segment.file_len == segment.memory_len;
    if is_constant && share(file, segment).is_ok() {
        return Ok(());
    }
    // Also for file systems that cannot map, or not for execution.
    copy(file, segment)
}

fn share(file: &ImageFile, segment: &Segment) -> io::Result<()> {
    let offset = segment.file_offset - segment.file_offset % PAGE_SIZE;
    // SAFETY: the image's segments were checked to lie in RAM, each in pages of its own; nobody uses
    // that RAM yet, and no Rust reference points into it.
    unsafe { map::map_file(file, offset, segment.pages(), segment.access) }
}

fn copy(file: &ImageFile, segment: &Segment) -> io::Result<()> {
    let len = usize::try_from(segment.file_len).map_err(io::Error::other)?;
    // SAFETY: the image's segments were checked to lie in RAM, which was just mapped writable and is
    // used by nobody else yet.
    let bytes = unsafe { std::slice::from_raw_parts_mut(segment.address as *mut u8, len) };
    file.read_exact_at(bytes, segment.file_offset)
}

/// Gives every region of RAM the protection of its access, also against the host's own devices.
fn protect(space: &AddressSpace) -> io::Result<()> {
    let restricted = space.regions().iter().filter(|r| r.access != Access::ReadWrite);
    for region in restricted {
        let len = region.pages.end - region.pages.start;
        debug_assert!(region.pages.start >= RAM_BASE);
        // SAFETY: pages of guest RAM, into which no Rust reference points.
        unsafe { map::protect(region.pages.start, len, map::protection(region.access))? };
    }
    Ok(())
}
