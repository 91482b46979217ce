//! What several fuzz targets share.

pub mod guest;
pub mod web;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use paravane_abi::device::QueueSetup;
use paravane_pv_drivers::RingMemory;
use paravane_pv_drivers::model::{Arena, ArenaRing, DeviceQueue};
use std::sync::atomic::Ordering;

thread_local! {
    static ARENA: Arena = Arena::default();
    static SHARED: Bytes = arena().share(vec![0; 1 << 16]);
}

/// The memory of all runs: one made anew for each would be leaked by the queues that are dropped.
#[must_use]
pub fn arena() -> Arena {
    ARENA.with(Clone::clone)
}

/// Bytes that a device of [`arena`] reaches: of all runs, for the same reason.
#[must_use]
pub fn shared() -> Bytes {
    SHARED.with(Clone::clone)
}

/// What a hostile device does to a used ring.
#[derive(Arbitrary, Debug)]
pub enum Attack {
    /// Finishes the chain with this head, be it in flight or not.
    Finish { head: u8, written: u32 },
    /// Writes an entry without showing it.
    WriteUsed { index: u16, id: u32, written: u32 },
    /// Moves the used index.
    Jump(u16),
    /// Writes anything anywhere in the used ring.
    Scribble { at: u16, value: u16 },
}

/// A virtqueue whose device is hostile.
#[derive(Debug)]
pub struct Victim {
    arena: Arena,
    setup: QueueSetup,
    /// The device side.
    pub device: DeviceQueue<ArenaRing>,
}

impl Victim {
    /// The queue that `setup` describes.
    #[must_use]
    pub fn new(arena: &Arena, setup: QueueSetup) -> Self {
        let device = DeviceQueue::new(arena.ring(setup.descriptors), &setup, true);
        Self { arena: arena.clone(), setup, device }
    }

    /// Lets the device do it.
    pub fn suffer(&mut self, attack: &Attack) {
        match *attack {
            Attack::Finish { head, written } => self.device.finish(u16::from(head), written),
            Attack::WriteUsed { index, id, written } => self.device.write_used(index, id, written),
            Attack::Jump(index) => self.device.set_used_index(index),
            Attack::Scribble { at, value } => {
                let cells = 3 + 4 * self.setup.size;
                let ring = self.arena.ring(self.setup.used);
                ring.store_u16(2 * usize::from(at % cells), value, Ordering::Relaxed);
            }
        }
    }
}
