//! Where the parts of a split virtqueue lie in its memory (virtio 1.2, 2.7).
use paravane_abi::device::{QUEUE_SIZE_MAX, QueueSetup};

/// A descriptor continues in the one named by its `next` field (2.7.5).
pub(super) const DESCRIPTOR_NEXT: u16 = 1;
/// A descriptor's buffer is written by the device (2.7.5).
pub(super) const DESCRIPTOR_WRITE: u16 = 2;
/// Flag of the used ring: the device, which has no EVENT_IDX, wants no notifications (2.7.10).
pub(super) const USED_NO_NOTIFY: u16 = 1;

/// Bytes of a descriptor: address u64, length u32, flags u16, next u16.
const DESCRIPTOR_SIZE: usize = 16;
/// Bytes in front of the entries of either ring: flags u16, index u16.
const RING_HEADER_SIZE: usize = 4;

/// The layout of a queue of a given size: descriptor table, available ring and used ring in one
/// allocation, in this order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    size: u16,
}

impl Layout {
    /// `None` unless `size` is a power of two up to [`QUEUE_SIZE_MAX`].
    pub(super) fn new(size: u16) -> Option<Self> {
        (size.is_power_of_two() && size <= QUEUE_SIZE_MAX).then_some(Self { size })
    }

    pub(super) fn size(self) -> u16 {
        self.size
    }

    /// The ring slot of a free-running index.
    fn slot(self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    pub(super) fn descriptor(self, id: u16) -> usize {
        DESCRIPTOR_SIZE * usize::from(id)
    }

    fn available(self) -> usize {
        DESCRIPTOR_SIZE * usize::from(self.size)
    }

    pub(super) fn available_index(self) -> usize {
        self.available() + 2
    }

    pub(super) fn available_entry(self, index: u16) -> usize {
        self.available() + RING_HEADER_SIZE + 2 * self.slot(index)
    }

    /// Behind the available ring: where the driver says at which used index it wants an event.
    pub(super) fn used_event(self) -> usize {
        self.available() + RING_HEADER_SIZE + 2 * usize::from(self.size)
    }

    fn used(self) -> usize {
        (self.used_event() + 2).next_multiple_of(4)
    }

    pub(super) fn used_flags(self) -> usize {
        self.used()
    }

    pub(super) fn used_index(self) -> usize {
        self.used() + 2
    }

    /// An entry of the used ring: id u32, length u32.
    pub(super) fn used_entry(self, index: u16) -> usize {
        self.used() + RING_HEADER_SIZE + 8 * self.slot(index)
    }

    /// Behind the used ring: where the device says at which available index it wants a notification.
    pub(super) fn available_event(self) -> usize {
        self.used() + RING_HEADER_SIZE + 8 * usize::from(self.size)
    }

    /// Bytes of the whole.
    pub(super) fn len(self) -> usize {
        self.available_event() + 2
    }

    /// What `ATTACH` says of a queue whose memory begins at device address `base`.
    pub(super) fn setup(self, base: u64) -> QueueSetup {
        QueueSetup {
            descriptors: base,
            available: base + self.available() as u64,
            used: base + self.used() as u64,
            size: self.size,
            reserved: [0; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_are_aligned() {
        for size in (0..=10).map(|shift| 1 << shift) {
            let layout = Layout::new(size).unwrap();
            let entries = usize::from(size);
            assert_eq!(layout.available(), layout.descriptor(size));
            assert_eq!(layout.used_event(), layout.available() + 4 + 2 * entries);
            assert!(layout.used() >= layout.used_event() + 2);
            assert!(layout.used().is_multiple_of(4));
            assert_eq!(layout.available_event(), layout.used() + 4 + 8 * entries);
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for size in [0, 3, 96, 2048] {
            assert!(Layout::new(size).is_none());
        }
    }

    #[test]
    fn indices_wrap_around_the_ring() {
        let layout = Layout::new(8).unwrap();
        assert_eq!(layout.available_entry(u16::MAX), layout.available_entry(7));
        assert_eq!(layout.used_entry(8), layout.used_entry(0));
    }
}
