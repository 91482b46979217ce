//! Bytes that are shared with the device, by the descriptor that points at them.
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::mem::ManuallyDrop;

/// A user of each piece of bytes that a device may read.
///
/// `Bytes` stay where they are and as they are while they have a user: whoever wants to change them must
/// be the only one. Dropping this does not end the use, as the device may read on.
#[derive(Default)]
pub(super) struct SharedPieces(Vec<Option<ManuallyDrop<Bytes>>>);

impl SharedPieces {
    /// Becomes a user of `piece` on behalf of `descriptor`, of a queue of `size`. A queue that never
    /// shares takes no memory for it.
    pub(super) fn keep(&mut self, size: u16, descriptor: u16, piece: &Bytes) {
        if self.0.is_empty() {
            self.0.resize_with(size.into(), || None);
        }
        self.0[usize::from(descriptor)] = Some(ManuallyDrop::new(piece.clone()));
    }

    /// Ends the use that `descriptor` makes of its piece, if it has one.
    pub(super) fn release(&mut self, descriptor: u16) {
        let piece = self.0.get_mut(usize::from(descriptor)).and_then(Option::take);
        drop(piece.map(ManuallyDrop::into_inner));
    }
}

impl fmt::Debug for SharedPieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedPieces").field(&self.0.iter().flatten().count()).finish()
    }
}
