//! Block devices: asynchronous reads and writes of whole sectors.
//!
//! A device works on memory that belongs to its driver. Data is copied to and from the caller's, or
//! the caller hands over a [`Buffer`] and gets it back. So a caller may drop a read or a write at any
//! point: nothing of the caller's is in the device's hands. What was begun of a dropped write may or
//! may not reach the device.
mod exchange;
mod poller;
#[cfg(test)]
mod tests;
mod volume;

pub use paravane_pv_drivers::block::{BlockError, SECTOR_SIZE};

use crate::device::{self, HeapDma, Hypercalls};
use crate::executor::register_poller;
use crate::state::kernel;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use paravane_abi::device::{Device, DeviceKind};
use paravane_pv_drivers::DmaBuffer;
use paravane_pv_drivers::block::Block;
use poller::BlockPoller;
use volume::Volume;

/// The devices that are open, by their index in the device table.
pub(crate) struct State {
    open: RefCell<Vec<(u32, Disk)>>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { open: RefCell::new(Vec::new()) }
    }
}

/// Memory that a device reads into. It has the bytes of the last read.
#[derive(Debug)]
pub struct Buffer {
    memory: DmaBuffer<HeapDma>,
    /// Bytes of the last read.
    len: usize,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

/// A block device. Clones are the same device.
#[derive(Clone, Debug)]
pub struct Disk {
    volume: Volume<HeapDma, Hypercalls>,
}

impl Disk {
    /// Opens the block device that the operator calls `tag`. `None` if there is none, or if it cannot
    /// be used, which the log tells.
    #[must_use]
    pub fn open(tag: &str) -> Option<Self> {
        let has_tag =
            |device: &Device| device.tag.split(|&b| b == 0).next() == Some(tag.as_bytes());
        let (index, device) =
            device::devices(DeviceKind::Block).find(|(_, device)| has_tag(device))?;
        let open = &kernel().block.open;
        let known = open.borrow().iter().find(|(i, _)| *i == index).map(|(_, disk)| disk.clone());
        known.or_else(|| {
            let disk = Self::attach(tag, index, device)?;
            open.borrow_mut().push((index, disk.clone()));
            Some(disk)
        })
    }

    fn attach(tag: &str, index: u32, device: &Device) -> Option<Self> {
        let driver = Block::new(HeapDma, Hypercalls, index, device)
            .inspect_err(|error| log::error!("block device \"{tag}\" cannot be used: {error:?}"))
            .ok()?;
        let driver = Rc::new(RefCell::new(driver));
        register_poller(Box::new(BlockPoller::new(driver.clone())));
        Some(Self { volume: Volume::new(driver) })
    }

    /// Size, sectors of [`SECTOR_SIZE`] bytes.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        self.volume.driver().borrow().capacity_sectors()
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.volume.driver().borrow().is_read_only()
    }

    /// Fills `data`, whose length is a multiple of [`SECTOR_SIZE`], with what is at `sector` and
    /// behind.
    ///
    /// # Errors
    /// The range is not on the device, or the device failed; `data` is undefined then.
    pub async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), BlockError> {
        self.volume.read(sector, data).await
    }

    /// A zeroed buffer for [`read_buffer`](Self::read_buffer). `None` if memory ran out or `len` is 0.
    #[must_use]
    pub fn buffer(&self, len: usize) -> Option<Buffer> {
        let memory = self.volume.buffer(len).ok()?;
        Some(Buffer { memory, len: 0 })
    }

    /// Reads into `buffer`, without a copy, `len` bytes at `sector` and behind, a multiple of
    /// [`SECTOR_SIZE`] and at most what the buffer was made for. A read that is dropped drops its
    /// buffer when the device is done.
    ///
    /// # Errors
    /// The range is not on the device, does not fit into the buffer, or the device failed.
    pub async fn read_buffer(
        &self,
        sector: u64,
        buffer: Buffer,
        len: usize,
    ) -> Result<Buffer, BlockError> {
        let memory = self.volume.read_buffer(sector, buffer.memory, len).await?;
        Ok(Buffer { memory, len })
    }

    /// Writes `data`, whose length is a multiple of [`SECTOR_SIZE`], to `sector` and behind. It
    /// survives a loss of power once [`flush`](Self::flush) has been called after that.
    ///
    /// # Errors
    /// The device is read-only, the range is not on it, or it failed; parts of `data` may have been
    /// written then.
    pub async fn write(&self, sector: u64, data: &[u8]) -> Result<(), BlockError> {
        self.volume.write(sector, data).await
    }

    /// Makes all writes that have returned survive a loss of power.
    ///
    /// # Errors
    /// The device failed: nobody knows which of them do.
    pub async fn flush(&self) -> Result<(), BlockError> {
        self.volume.flush().await
    }

    /// Tells the device that the content of `count` sectors at `sector` and behind is not needed.
    ///
    /// # Errors
    /// The device has no discard, is read-only, does not have the range, or failed.
    pub async fn discard(&self, sector: u64, count: u64) -> Result<(), BlockError> {
        self.volume.discard(sector, count).await
    }
}
