//! Block devices: asynchronous reads and writes of whole sectors.
//!
//! A device works on memory that belongs to its driver, and data is copied to and from the caller's.
//! So a caller may drop a read or a write at any point: nothing of the caller's is in the device's
//! hands. What was begun of a dropped write may or may not reach the device.
mod exchange;
mod poller;

pub use paravane_pv_drivers::block::{BlockError, SECTOR_SIZE};

use crate::device::{self, HeapDma, Hypercalls};
use crate::executor::register_poller;
use crate::state::kernel;
use crate::to_usize;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::ops::Range;
use core::task::{Context, Poll};
use exchange::Exchange;
use paravane_abi::device::{Device, DeviceKind};
use paravane_pv_drivers::block::{Block, Request};
use poller::BlockPoller;

/// The kernel's block driver.
type Driver = Block<HeapDma, Hypercalls>;
type Buffer = paravane_pv_drivers::DmaBuffer<HeapDma>;

/// Most bytes of one request; longer reads and writes are several.
const PIECE_LEN: usize = 128 << 10;
/// Most pieces of one read or write that are in flight at a time.
const PIECES_IN_FLIGHT: usize = 4;

/// The devices that are open, by their index in the device table.
pub(crate) struct State {
    open: RefCell<Vec<(u32, Disk)>>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { open: RefCell::new(Vec::new()) }
    }
}

/// A block device. Clones are the same device.
#[derive(Clone, Debug)]
pub struct Disk {
    driver: Rc<RefCell<Driver>>,
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
        let driver = Driver::new(HeapDma, Hypercalls, index, device)
            .inspect_err(|error| log::error!("block device \"{tag}\" cannot be used: {error:?}"))
            .ok()?;
        let driver = Rc::new(RefCell::new(driver));
        register_poller(Box::new(BlockPoller::new(driver.clone())));
        Some(Self { driver })
    }

    /// Size, sectors of [`SECTOR_SIZE`] bytes.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        self.driver.borrow().capacity_sectors()
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.driver.borrow().is_read_only()
    }

    /// Fills `data`, whose length is a multiple of [`SECTOR_SIZE`], with what is at `sector` and
    /// behind.
    ///
    /// # Errors
    /// The range is not on the device, or the device failed; `data` is undefined then.
    pub async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), BlockError> {
        let make = |sector, range: Range<usize>| {
            let buffer = self.buffer(range.len())?;
            Ok(Request::Read { sector, buffer })
        };
        let len = data.len();
        self.transfer(sector, len, make, |range, buffer| data[range].copy_from_slice(buffer)).await
    }

    /// Writes `data`, whose length is a multiple of [`SECTOR_SIZE`], to `sector` and behind. It
    /// survives a loss of power once [`flush`](Self::flush) has been called after that.
    ///
    /// # Errors
    /// The device is read-only, the range is not on it, or it failed; parts of `data` may have been
    /// written then.
    pub async fn write(&self, sector: u64, data: &[u8]) -> Result<(), BlockError> {
        let make = |sector, range: Range<usize>| {
            let mut buffer = self.buffer(range.len())?;
            buffer.copy_from_slice(&data[range]);
            Ok(Request::Write { sector, buffer })
        };
        self.transfer(sector, data.len(), make, |_, _| ()).await
    }

    /// Makes all writes that have returned survive a loss of power.
    ///
    /// # Errors
    /// The device failed: nobody knows which of them do.
    pub async fn flush(&self) -> Result<(), BlockError> {
        if !self.driver.borrow().has_flush() {
            // Such a device keeps nothing back (virtio 1.2, 5.2.6.2).
            return Ok(());
        }
        self.exchange(Request::Flush).await.map(drop)
    }

    /// Tells the device that the content of `count` sectors at `sector` and behind is not needed.
    ///
    /// # Errors
    /// The device has no discard, is read-only, does not have the range, or failed.
    pub async fn discard(&self, sector: u64, count: u64) -> Result<(), BlockError> {
        let max = self.driver.borrow().discard_sectors_max();
        if max == 0 {
            return Err(BlockError::Unsupported);
        }
        let end = sector.checked_add(count).ok_or(BlockError::Range)?;
        let mut sector = sector;
        while sector < end {
            let count = u32::try_from(end - sector).map_or(max, |left| left.min(max));
            self.exchange(Request::Discard { sector, count }).await?;
            sector += u64::from(count);
        }
        Ok(())
    }

    fn exchange(&self, request: Request<HeapDma>) -> Exchange {
        Exchange::new(self.driver.clone(), request)
    }

    fn buffer(&self, len: usize) -> Result<Buffer, BlockError> {
        self.driver.borrow().buffer(len).ok_or(BlockError::Memory)
    }

    /// Moves `len` bytes in pieces, of which some are in flight at a time. `make` gives the request
    /// for a piece of the data, `done` takes its buffer back.
    async fn transfer(
        &self,
        sector: u64,
        len: usize,
        make: impl Fn(u64, Range<usize>) -> Result<Request<HeapDma>, BlockError>,
        mut done: impl FnMut(Range<usize>, &Buffer),
    ) -> Result<(), BlockError> {
        if !len.is_multiple_of(to_usize(SECTOR_SIZE)) {
            return Err(BlockError::Range);
        }
        let mut starts = (0..len).step_by(PIECE_LEN);
        let mut window = VecDeque::with_capacity(PIECES_IN_FLIGHT);
        poll_fn(|context| {
            loop {
                while window.len() < PIECES_IN_FLIGHT
                    && let Some(start) = starts.next()
                {
                    let range = start..len.min(start + PIECE_LEN);
                    let request = make(sector_behind(sector, start)?, range.clone())?;
                    let mut exchange = self.exchange(request);
                    exchange.start(context);
                    window.push_back((range, exchange));
                }
                let Some((range, exchange)) = window.front_mut() else {
                    return Poll::Ready(Ok(()));
                };
                if let Some(buffer) = core::task::ready!(poll_exchange(exchange, context))? {
                    done(range.clone(), &buffer);
                }
                window.pop_front();
            }
        })
        .await
    }
}

/// The sector of the byte `offset` bytes behind the beginning of `sector`.
fn sector_behind(sector: u64, offset: usize) -> Result<u64, BlockError> {
    sector.checked_add(offset as u64 / SECTOR_SIZE).ok_or(BlockError::Range)
}

fn poll_exchange(
    exchange: &mut Exchange,
    context: &mut Context<'_>,
) -> Poll<Result<Option<Buffer>, BlockError>> {
    core::pin::Pin::new(exchange).poll(context)
}
