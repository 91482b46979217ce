//! A hostile guest: RAM with anything in it, and rings anywhere in that.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use paravane::devices::Device;
use paravane::memory::GuestRam;
use paravane_abi::device::{Attach, QueueSetup};
use std::cell::OnceCell;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

/// Bytes of RAM.
const RAM_SIZE: u64 = 1 << 20;
/// Where queue `i` has its rings.
const RINGS: u64 = 0x1_0000;
const RINGS_SIZE: u64 = 0x1_0000;
/// Where chains usually have their buffers.
const BUFFERS: u64 = 0x4_0000;

/// Something that the guest does before the next hypercall.
#[derive(Arbitrary, Debug)]
pub enum Move {
    /// Writes a descriptor whose buffer is at a usual place.
    Describe { queue: bool, index: u8, at: u16, len: u16, flags: u8, next: u8 },
    /// Writes a descriptor with anything in it.
    DescribeAny { queue: bool, index: u8, bytes: [u8; 16] },
    /// Writes where buffers usually are: requests, frame headers.
    Fill { at: u16, bytes: Vec<u8> },
    /// Writes anything anywhere.
    Scribble { at: u32, bytes: [u8; 4] },
    /// Makes a chain available.
    Offer { queue: bool, head: u8 },
    /// Moves the available index.
    Jump { queue: bool, index: u16 },
    /// `NOTIFY`.
    Notify { queue: bool },
    /// `WAIT` with deadline 0.
    Poll,
}

/// A hostile guest.
#[derive(Debug)]
pub struct Guest {
    ram: GuestRam,
    queues: [QueueSetup; 2],
    available: [u16; 2],
}

impl Guest {
    /// A guest with zeroed RAM, whose rings `device` takes into use.
    #[must_use]
    pub fn attach(device: &mut impl Device, features: u64) -> Self {
        thread_local! {
            static RAM: OnceCell<GuestRam> = const { OnceCell::new() };
        }
        let ram = RAM.with(|ram| {
            ram.get_or_init(|| GuestRam::new(RAM_SIZE).expect("the addresses are free")).clone()
        });
        let mut guest = Self { ram, queues: [QueueSetup::default(); 2], available: [0; 2] };
        guest.write(0, &vec![0; usize::try_from(RAM_SIZE).expect("64 bits")]);
        let entry = device.entry();
        let mut attach = Attach {
            queue_count: u32::from(entry.queue_count),
            features: entry.features & features | paravane_abi::device::feature::VERSION_1,
            ..Attach::default()
        };
        for (index, queue) in (0..u64::from(entry.queue_count)).zip(&mut guest.queues) {
            let base = RINGS + index * RINGS_SIZE;
            *queue = QueueSetup {
                descriptors: base,
                available: base + 0x4000,
                used: base + 0x8000,
                size: 16,
                reserved: [0; 3],
            };
        }
        let count = usize::from(entry.queue_count);
        attach.queues[..count].copy_from_slice(&guest.queues[..count]);
        let attach = Attach::parse(attach.as_bytes(), &entry, 0, RAM_SIZE).expect("it is right");
        device.attach(&guest.ram, &attach).expect("it is right");
        guest
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        // What does not lie in RAM is left out, as the guest would fault.
        let _ = self.ram.memory().write_slice(bytes, GuestAddress(at));
    }

    /// Makes a move. False if the device ended the guest for it.
    pub fn play(&mut self, device: &mut impl Device, step: &Move) -> bool {
        match step {
            Move::Describe { queue, index, at, len, flags, next } => {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&(BUFFERS + u64::from(*at)).to_le_bytes());
                bytes[8..10].copy_from_slice(&len.to_le_bytes());
                bytes[12] = flags & 7;
                bytes[14] = next & 15;
                self.describe(*queue, *index, &bytes);
            }
            Move::DescribeAny { queue, index, bytes } => self.describe(*queue, *index, bytes),
            Move::Fill { at, bytes } => self.write(BUFFERS + u64::from(*at), bytes),
            Move::Scribble { at, bytes } => self.write(u64::from(*at) % RAM_SIZE, bytes),
            Move::Offer { queue, head } => self.offer(usize::from(*queue), *head),
            Move::Jump { queue, index } => self.set_available(usize::from(*queue), *index),
            Move::Notify { queue } => return device.notify(&self.ram, u16::from(*queue)).is_ok(),
            Move::Poll => return device.poll(&self.ram).is_ok(),
        }
        true
    }

    fn describe(&self, queue: bool, index: u8, bytes: &[u8; 16]) {
        let table = self.queues[usize::from(queue)].descriptors;
        self.write(table + 16 * u64::from(index & 15), bytes);
    }

    fn offer(&mut self, queue: usize, head: u8) {
        let slot = u64::from(self.available[queue] & 15);
        let entry = self.queues[queue].available + 4 + 2 * slot;
        self.write(entry, &u16::from(head & 31).to_le_bytes());
        self.set_available(queue, self.available[queue].wrapping_add(1));
    }

    fn set_available(&mut self, queue: usize, index: u16) {
        self.available[queue] = index;
        self.write(self.queues[queue].available + 2, &index.to_le_bytes());
    }
}
