//! Reads and writes of any length, in pieces.
use super::exchange::Exchange;
use crate::to_usize;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::future::poll_fn;
use core::ops::Range;
use core::pin::Pin;
use core::task::{Poll, ready};
use paravane_pv_drivers::block::{Block, BlockError, Request, SECTOR_SIZE};
use paravane_pv_drivers::{Dma, DmaBuffer, Transport};

/// Most bytes of one request; longer reads and writes are several.
const PIECE_LEN: usize = 128 << 10;
/// Most pieces of one read or write that are in flight at a time.
const PIECES_IN_FLIGHT: usize = 4;

/// A block device as a range of sectors. Clones are the same device.
#[derive(Debug)]
pub(super) struct Volume<D: Dma, T: Transport> {
    driver: Rc<RefCell<Block<D, T>>>,
}

impl<D: Dma, T: Transport> Clone for Volume<D, T> {
    fn clone(&self) -> Self {
        Self::new(self.driver.clone())
    }
}

impl<D: Dma, T: Transport> Volume<D, T> {
    pub(super) fn new(driver: Rc<RefCell<Block<D, T>>>) -> Self {
        Self { driver }
    }

    pub(super) fn driver(&self) -> &RefCell<Block<D, T>> {
        &self.driver
    }

    /// See [`Disk::read`](super::Disk::read). The same goes for the others.
    pub(super) async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), BlockError> {
        let make = |sector, range: Range<usize>| {
            let len = range.len();
            Ok(Request::Read { sector, buffer: self.buffer(len)?, len })
        };
        let len = data.len();
        self.transfer(sector, len, make, |range, buffer| data[range].copy_from_slice(buffer)).await
    }

    /// See [`Disk::read_buffer`](super::Disk::read_buffer).
    pub(super) async fn read_buffer(
        &self,
        sector: u64,
        buffer: DmaBuffer<D>,
        len: usize,
    ) -> Result<DmaBuffer<D>, BlockError> {
        let read = self.exchange(Request::Read { sector, buffer, len }).await?;
        read.ok_or(BlockError::Io)
    }

    pub(super) async fn write(&self, sector: u64, data: &[u8]) -> Result<(), BlockError> {
        let make = |sector, range: Range<usize>| {
            let mut buffer = self.buffer(range.len())?;
            buffer.copy_from_slice(&data[range]);
            Ok(Request::Write { sector, buffer })
        };
        self.transfer(sector, data.len(), make, |_, _| ()).await
    }

    pub(super) async fn flush(&self) -> Result<(), BlockError> {
        if !self.driver.borrow().has_flush() {
            // Such a device keeps nothing back (virtio 1.2, 5.2.6.2).
            return Ok(());
        }
        self.exchange(Request::Flush).await.map(drop)
    }

    pub(super) async fn discard(&self, sector: u64, count: u64) -> Result<(), BlockError> {
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

    fn exchange(&self, request: Request<D>) -> Exchange<D, T> {
        Exchange::new(self.driver.clone(), request)
    }

    pub(super) fn buffer(&self, len: usize) -> Result<DmaBuffer<D>, BlockError> {
        self.driver.borrow().buffer(len).ok_or(BlockError::Memory)
    }

    /// Moves `len` bytes in pieces, of which some are in flight at a time. `make` gives the request
    /// for a piece of the data, `done` takes its buffer back.
    async fn transfer(
        &self,
        sector: u64,
        len: usize,
        make: impl Fn(u64, Range<usize>) -> Result<Request<D>, BlockError>,
        mut done: impl FnMut(Range<usize>, &DmaBuffer<D>),
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
                if let Some(buffer) = ready!(Pin::new(exchange).poll(context))? {
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
