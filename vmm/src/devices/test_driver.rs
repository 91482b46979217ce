//! A model of a driver, for the tests: lays out a virtqueue in RAM and fills it with anything, right or
//! wrong.
use crate::memory::GuestRam;
use paravane_abi::device::{Attach, Device as TableEntry, QueueSetup};
use std::collections::VecDeque;
use vm_memory::{Bytes, GuestAddress};

/// Bytes of RAM of a test domain.
pub(super) const RAM_SIZE: u64 = 4 << 20;
/// Where queue `i` has its rings.
const RINGS: u64 = 0x1_0000;
const RINGS_SIZE: u64 = 0x1_0000;
/// Where tests put buffers.
pub(super) const BUFFERS: u64 = 1 << 20;

const NEXT: u16 = 1;
/// The device writes to the buffer.
pub(super) const WRITE: u16 = 2;

/// A descriptor as it lies in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

/// One virtqueue, seen from the driver.
#[derive(Debug)]
pub(super) struct DriverQueue {
    pub(super) ram: GuestRam,
    pub(super) setup: QueueSetup,
    available: u16,
    used: u16,
    free: VecDeque<u16>,
    in_use: Vec<Vec<u16>>,
}

/// RAM and queues for a device, with the `Attach` that hands them over.
pub(super) fn attach(entry: &TableEntry, features: u64) -> (GuestRam, Vec<DriverQueue>, Attach) {
    let ram = GuestRam::anywhere(RAM_SIZE).unwrap();
    let mut attach =
        Attach { queue_count: entry.queue_count.into(), features, ..Attach::default() };
    let queues: Vec<_> = (0..u64::from(entry.queue_count))
        .map(|i| DriverQueue::new(ram.clone(), RINGS + i * RINGS_SIZE, entry.queue_size_max))
        .collect();
    for (setup, queue) in attach.queues.iter_mut().zip(&queues) {
        *setup = queue.setup;
    }
    (ram, queues, attach)
}

impl DriverQueue {
    fn new(ram: GuestRam, base: u64, size: u16) -> Self {
        let setup = QueueSetup {
            descriptors: base,
            available: base + 0x4000,
            used: base + 0x8000,
            size,
            reserved: [0; 3],
        };
        let in_use = vec![Vec::new(); size.into()];
        Self { ram, setup, available: 0, used: 0, free: (0..size).collect(), in_use }
    }

    fn write<const N: usize>(&self, address: u64, bytes: [u8; N]) {
        self.ram.memory().write_slice(&bytes, GuestAddress(address)).unwrap();
    }

    fn read_u16(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        self.ram.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        u16::from_le_bytes(bytes)
    }

    /// Writes a descriptor into the table.
    pub(super) fn describe(&self, index: u16, raw: Raw) {
        let at = self.setup.descriptors + u64::from(index) * 16;
        self.write(at, raw.address.to_le_bytes());
        self.write(at + 8, raw.len.to_le_bytes());
        self.write(at + 12, raw.flags.to_le_bytes());
        self.write(at + 14, raw.next.to_le_bytes());
    }

    /// Makes `head` available without looking at it.
    pub(super) fn offer(&mut self, head: u16) {
        let slot = self.available % self.setup.size;
        self.write(self.setup.available + 4 + u64::from(slot) * 2, head.to_le_bytes());
        self.set_available(self.available.wrapping_add(1));
    }

    /// Sets the index of the available ring.
    pub(super) fn set_available(&mut self, index: u16) {
        self.available = index;
        self.write(self.setup.available + 2, index.to_le_bytes());
    }

    /// Asks to be told when the device has returned chain number `index`.
    pub(super) fn set_used_event(&self, index: u16) {
        let at = self.setup.available + 4 + u64::from(self.setup.size) * 2;
        self.write(at, index.to_le_bytes());
    }

    /// The chain of which the device wants to be told.
    pub(super) fn available_event(&self) -> u16 {
        self.read_u16(self.setup.used + 4 + u64::from(self.setup.size) * 8)
    }

    /// Makes a well-formed chain of `(address, len, flags)` available; its head.
    pub(super) fn add(&mut self, buffers: &[(u64, u32, u16)]) -> u16 {
        let indices: Vec<u16> = buffers.iter().map(|_| self.free.pop_front().unwrap()).collect();
        for (i, &(address, len, flags)) in buffers.iter().enumerate() {
            let next = indices.get(i + 1).copied();
            let flags = flags | if next.is_some() { NEXT } else { 0 };
            self.describe(indices[i], Raw { address, len, flags, next: next.unwrap_or(0) });
        }
        let head = indices[0];
        self.in_use[usize::from(head)] = indices;
        self.offer(head);
        head
    }

    /// The next chain that the device returned: its head and the bytes written.
    pub(super) fn take(&mut self) -> Option<(u16, u32)> {
        if self.read_u16(self.setup.used + 2) == self.used {
            return None;
        }
        let at = self.setup.used + 4 + u64::from(self.used % self.setup.size) * 8;
        self.used = self.used.wrapping_add(1);
        let mut bytes = [0; 8];
        self.ram.memory().read_slice(&mut bytes, GuestAddress(at)).unwrap();
        let [h0, h1, _, _, len @ ..] = bytes;
        let head = u16::from_le_bytes([h0, h1]);
        self.free.extend(std::mem::take(&mut self.in_use[usize::from(head)]));
        Some((head, u32::from_le_bytes(len)))
    }

    /// Puts bytes into RAM.
    pub(super) fn put(&self, address: u64, bytes: &[u8]) {
        self.ram.memory().write_slice(bytes, GuestAddress(address)).unwrap();
    }

    /// Bytes of RAM.
    pub(super) fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }
}
