//! The device: its table entry, its queue, and where each request goes.
use super::super::queue::{Chain, Virtqueue};
use super::super::slices::{GuestSlice, total_len, truncate_bytes, write_at};
use super::super::{Device, GuestFault};
use super::request::{DISCARD_SECTORS_MAX, Limits, Operation, Status, parse};
use super::storage::{FileStorage, Storage};
use super::worker::{Job, Worker};
use crate::memory::GuestRam;
use paravane_abi::device::{
    Attach, BlockConfig, Device as TableEntry, DeviceKind, SECTOR_SIZE, feature,
};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::RawFd;
use std::sync::Arc;

/// Entries of the virtqueue.
const QUEUE_SIZE: u16 = 128;
/// Most data segments of a request: a chain has a header and a status besides.
const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Bytes of the answer to `GET_ID` (virtio 1.2, 5.2.6).
const ID_LEN: usize = 20;

/// A block device.
#[derive(Debug)]
pub struct BlockDevice {
    tag: [u8; 16],
    name: String,
    storage: Arc<dyn Storage>,
    limits: Limits,
    worker: Option<Worker>,
    queue: Option<Virtqueue>,
    chain: Chain,
    in_flight: u16,
}

impl BlockDevice {
    /// Makes a device over `file`: a regular file or a block device, open for reading and, unless
    /// `is_read_only`, for writing. The last sector is filled up with zeroes if the file ends in it.
    /// `tag` is what the operator calls the device; at most 16 bytes of it are shown to the guest.
    ///
    /// # Errors
    /// The size of the file cannot be found.
    pub fn new(tag: &str, mut file: File, is_read_only: bool) -> io::Result<Self> {
        let capacity = file.seek(SeekFrom::End(0))?.div_ceil(SECTOR_SIZE);
        Ok(Self::with_storage(tag, Arc::new(FileStorage::new(file)), capacity, is_read_only))
    }

    pub(super) fn with_storage(
        tag: &str,
        storage: Arc<dyn Storage>,
        capacity: u64,
        is_read_only: bool,
    ) -> Self {
        Self {
            tag: super::super::padded_tag(tag),
            name: tag.to_owned(),
            storage,
            limits: Limits { capacity, is_read_only, features: 0 },
            worker: None,
            queue: None,
            chain: Chain::default(),
            in_flight: 0,
        }
    }

    fn features(&self) -> u64 {
        let kind = if self.limits.is_read_only {
            feature::BLK_RO
        } else {
            feature::BLK_FLUSH | feature::BLK_DISCARD
        };
        kind | feature::RING_EVENT_IDX | feature::VERSION_1
    }

    fn serve(&mut self, ram: &GuestRam, queue: &mut Virtqueue) -> Result<(), GuestFault> {
        loop {
            while queue.pop(ram, &mut self.chain)? {
                if self.in_flight >= queue.size() {
                    return Err(
                        queue.fault("more requests are in flight than the queue has entries")
                    );
                }
                let request =
                    parse(&mut self.chain, &self.limits).map_err(|what| queue.fault(what))?;
                if let Some((status, len)) = self.begin(request.status, request.operation) {
                    complete(ram, queue, self.chain.head, request.status, status, len)?;
                }
            }
            if !queue.request_notification(ram)? {
                return Ok(());
            }
        }
    }

    /// Does a request at once, and gives its status and the bytes of data written to the guest; or
    /// leaves it to the worker.
    fn begin(
        &mut self,
        status: GuestSlice,
        operation: Result<Operation, Status>,
    ) -> Option<(Status, u32)> {
        let operation = match operation {
            Ok(operation) => operation,
            Err(status) => return Some((status, 0)),
        };
        let read_len = u32::try_from(total_len(&self.chain.writable)).unwrap_or(u32::MAX);
        match operation {
            Operation::GetId => Some((Status::Ok, self.write_id())),
            Operation::Read { offset } => match self.storage.try_read(offset, &self.chain.writable)
            {
                Ok(true) => Some((Status::Ok, read_len)),
                Ok(false) => self.submit(status, operation, read_len),
                Err(_) => Some((Status::IoError, 0)),
            },
            _ => self.submit(status, operation, 0),
        }
    }

    fn submit(
        &mut self,
        status: GuestSlice,
        operation: Operation,
        read_len: u32,
    ) -> Option<(Status, u32)> {
        let slices = match operation {
            Operation::Read { .. } => std::mem::take(&mut self.chain.writable),
            _ => std::mem::take(&mut self.chain.readable),
        };
        let is_write_through = self.limits.features & feature::BLK_FLUSH == 0;
        let head = self.chain.head;
        let job = Job { head, status, operation, slices, read_len, is_write_through };
        if !self.worker.as_ref().is_some_and(|worker| worker.submit(job)) {
            return Some((Status::IoError, 0));
        }
        self.in_flight += 1;
        None
    }

    fn write_id(&mut self) -> u32 {
        let mut id = [0; ID_LEN];
        id[..self.tag.len()].copy_from_slice(&self.tag);
        truncate_bytes(&mut self.chain.writable, ID_LEN);
        let len = total_len(&self.chain.writable);
        write_at(&self.chain.writable, 0, &id[..len]);
        u32::try_from(len).unwrap_or(0)
    }

    fn collect(&mut self, ram: &GuestRam, queue: &mut Virtqueue) -> Result<(), GuestFault> {
        let Some(worker) = self.worker.as_mut().filter(|_| self.in_flight > 0) else {
            return Ok(());
        };
        for done in worker.take_done() {
            self.in_flight -= 1;
            let len = if done.result == Status::Ok { done.job.read_len } else { 0 };
            complete(ram, queue, done.job.head, done.job.status, done.result, len)?;
        }
        Ok(())
    }
}

fn complete(
    ram: &GuestRam,
    queue: &mut Virtqueue,
    head: u16,
    status_slice: GuestSlice,
    status: Status,
    data_len: u32,
) -> Result<(), GuestFault> {
    write_at(&[status_slice], 0, &[status as u8]);
    queue.add_used(ram, head, data_len.saturating_add(1))
}

impl Device for BlockDevice {
    fn entry(&self) -> TableEntry {
        let features = self.features();
        let can_discard = features & feature::BLK_DISCARD != 0;
        TableEntry {
            kind: DeviceKind::Block as u32,
            queue_count: 1,
            queue_size_max: QUEUE_SIZE,
            features,
            tag: self.tag,
            block: BlockConfig {
                capacity: self.limits.capacity,
                segments_max: SEGMENTS_MAX,
                discard_sectors_max: if can_discard { DISCARD_SECTORS_MAX } else { 0 },
            },
            ..TableEntry::default()
        }
    }

    fn start(&mut self) -> io::Result<()> {
        self.worker = Some(Worker::start(&self.name, Arc::clone(&self.storage))?);
        Ok(())
    }

    fn attach(&mut self, ram: &GuestRam, attach: &Attach) -> Result<(), GuestFault> {
        self.queue = Some(Virtqueue::new(ram, attach, 0)?);
        self.limits.features = attach.features;
        Ok(())
    }

    fn notify(&mut self, ram: &GuestRam, _queue: u16) -> Result<(), GuestFault> {
        let Some(mut queue) = self.queue.take() else { return Ok(()) };
        let result = self.serve(ram, &mut queue);
        self.queue = Some(queue);
        result
    }

    fn poll(&mut self, ram: &GuestRam) -> Result<bool, GuestFault> {
        let Some(mut queue) = self.queue.take() else { return Ok(false) };
        let result = self
            .serve(ram, &mut queue)
            .and_then(|()| self.collect(ram, &mut queue))
            .and_then(|()| queue.needs_notification(ram));
        self.queue = Some(queue);
        result
    }

    fn descriptors(&self, descriptors: &mut Vec<RawFd>) {
        descriptors.push(self.storage.descriptor());
    }

    fn interests(&self, descriptors: &mut Vec<libc::pollfd>) {
        if let Some(worker) = self.worker.as_ref().filter(|_| self.in_flight > 0) {
            descriptors.push(libc::pollfd {
                fd: worker.wakeup(),
                events: libc::POLLIN,
                revents: 0,
            });
        }
    }
}
