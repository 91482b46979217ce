//! Tests of the drivers against models of the device.
mod block;
mod hostile;
mod net;
mod ring;
mod ring_order;
mod ring_reference;

use crate::model::{Arena, ArenaRing, DeviceQueue};
use crate::{Chain, DmaBuffer, Segment, VirtQueue};
use bytes::Bytes;
use paravane_abi::device::feature;
use std::vec::Vec;

/// Both kinds of notification suppression.
const EVENT_KINDS: [u64; 2] = [0, feature::RING_EVENT_IDX];

/// A queue and its device side.
fn pair<T>(
    arena: &Arena,
    size: u16,
    features: u64,
) -> (VirtQueue<Arena, T>, DeviceQueue<ArenaRing>) {
    let queue = VirtQueue::new(arena, size, features).unwrap();
    let setup = queue.setup();
    let event_idx = features & feature::RING_EVENT_IDX != 0;
    let device = DeviceQueue::new(arena.ring(setup.descriptors), &setup, event_idx);
    (queue, device)
}

fn segment(arena: &Arena, len: usize) -> Segment<Arena> {
    Segment::whole(DmaBuffer::new(arena, len, 8).unwrap())
}

/// Pieces of these lengths that the device reaches. The bytes of piece `i` are `i`.
fn shared(arena: &Arena, lens: &[usize]) -> Vec<Bytes> {
    let piece = |(i, &len): (u8, &usize)| arena.share(std::vec![i; len]);
    (0..).zip(lens).map(piece).collect()
}

/// A chain of four segments: 10 and 20 bytes to read, 30 and 40 to write.
fn long_chain(arena: &Arena) -> Chain<Arena> {
    Chain {
        readable: [Some(segment(arena, 10)), Some(segment(arena, 20))],
        writable: [Some(segment(arena, 30)), Some(segment(arena, 40))],
    }
}
