//! Pieces of guest RAM in the form that vectored system calls take.
use std::ptr;
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// Most pieces of one system call: `UIO_MAXIOV` of linux/uio.h.
pub(super) const SLICES_MAX: usize = 1024;

/// A piece of guest RAM. The guest may change it at any time: it is read by copying bytes out once,
/// or handed to the kernel.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct GuestSlice(libc::iovec);

// SAFETY: the pointer is only handed to the kernel or used for copies of bytes, which no thread-local
// state of the host depends on; guest RAM stays mapped while the process runs (`GuestRam::new`).
unsafe impl Send for GuestSlice {}

impl std::fmt::Debug for GuestSlice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GuestSlice({:p}, {})", self.0.iov_base, self.0.iov_len)
    }
}

impl GuestSlice {
    /// The piece of RAM that `slice`, already checked to lie in RAM, covers.
    pub(super) fn new<B: BitmapSlice>(slice: &VolatileSlice<'_, B>) -> Self {
        let iov_base = slice.ptr_guard_mut().as_ptr().cast();
        Self(libc::iovec { iov_base, iov_len: slice.len() })
    }

    /// A piece of host memory, which must outlive the use of the result.
    pub(super) fn of_host(bytes: &mut [u8]) -> Self {
        Self(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() })
    }

    /// Bytes of the piece.
    pub(super) fn len(self) -> usize {
        self.0.iov_len
    }

    /// The piece for copies between it and other memory that changes at any time.
    fn volatile(self) -> VolatileSlice<'static> {
        // SAFETY: guest RAM stays mapped while the process runs (`GuestRam::new`), and host memory
        // outlives its use as a piece (`of_host`); the slice is used for one copy and not kept.
        unsafe { VolatileSlice::new(self.0.iov_base.cast(), self.0.iov_len) }
    }

    /// The address behind the last byte.
    fn end(self) -> usize {
        self.0.iov_base.addr() + self.0.iov_len
    }

    /// The piece without its first `count` bytes; empty if it has no more.
    fn skip(self, count: usize) -> Self {
        let count = count.min(self.0.iov_len);
        let iov_base = self.0.iov_base.cast::<u8>().wrapping_add(count).cast();
        Self(libc::iovec { iov_base, iov_len: self.0.iov_len - count })
    }

    /// The first `count` bytes of the piece, or all if it has fewer.
    fn truncate(self, count: usize) -> Self {
        Self(libc::iovec { iov_len: self.0.iov_len.min(count), ..self.0 })
    }
}

/// Adds a piece at the end, as one with the last if it lies right behind that: a vectored call takes time
/// for each piece.
pub(super) fn append(slices: &mut Vec<GuestSlice>, slice: GuestSlice) {
    match slices.last_mut() {
        Some(last) if last.end() == slice.0.iov_base.addr() => last.0.iov_len += slice.len(),
        _ => slices.push(slice),
    }
}

/// Bytes in all of `slices`.
pub(super) fn total_len(slices: &[GuestSlice]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// Drops the first `count` bytes.
pub(super) fn skip_bytes(slices: &mut Vec<GuestSlice>, mut count: usize) {
    let whole = slices
        .iter()
        .take_while(|slice| {
            let fits = slice.len() <= count;
            count -= if fits { slice.len() } else { 0 };
            fits
        })
        .count();
    slices.drain(..whole);
    if let Some(first) = slices.first_mut() {
        *first = first.skip(count);
    }
}

/// Keeps the first `count` bytes only.
pub(super) fn truncate_bytes(slices: &mut Vec<GuestSlice>, mut count: usize) {
    for slice in slices.iter_mut() {
        *slice = slice.truncate(count);
        count -= slice.len();
    }
    slices.retain(|slice| slice.len() > 0);
}

/// Copies bytes from `offset` on into `bytes`. False if there are not as many.
pub(super) fn read_at(slices: &[GuestSlice], offset: usize, bytes: &mut [u8]) -> bool {
    let len = bytes.len();
    each_piece(slices, offset, len, |piece, at| {
        // SAFETY: `piece` lies in guest RAM, which stays mapped; `at` plus its length is at most
        // `bytes.len()`, see `each_piece`; the two do not overlap as host memory is not in guest RAM.
        // Only the guest's own thread gets here, inside a hypercall: the guest does not run meanwhile.
        unsafe {
            ptr::copy_nonoverlapping(
                piece.0.iov_base.cast::<u8>(),
                bytes.as_mut_ptr().add(at),
                piece.len(),
            );
        }
    })
}

/// Copies `bytes` to `offset`. False, with some of them written, if there is not as much room.
pub(super) fn write_at(slices: &[GuestSlice], offset: usize, bytes: &[u8]) -> bool {
    each_piece(slices, offset, bytes.len(), |piece, at| {
        // SAFETY: as in `read_at`, in the other direction; no reference into guest RAM exists.
        unsafe {
            ptr::copy_nonoverlapping(
                bytes.as_ptr().add(at),
                piece.0.iov_base.cast::<u8>(),
                piece.len(),
            );
        }
    })
}

/// Copies `message` into `slices`; what does not fit is left out.
pub(super) fn copy_in(slices: &[GuestSlice], message: &VolatileSlice<'_>) {
    each_piece(slices, 0, message.len(), |piece, at| {
        if let Ok(bytes) = message.subslice(at, piece.len()) {
            bytes.copy_to_volatile_slice(piece.volatile());
        }
    });
}

/// Copies all of `slices` to `room`, which is as long.
pub(super) fn copy_out(slices: &[GuestSlice], room: &VolatileSlice<'_>) {
    each_piece(slices, 0, room.len(), |piece, at| {
        if let Ok(bytes) = room.subslice(at, piece.len()) {
            piece.volatile().copy_to_volatile_slice(bytes);
        }
    });
}

/// Writes zeroes to all of `slices`.
pub(super) fn clear_bytes(slices: &[GuestSlice]) {
    for slice in slices {
        // SAFETY: as in `write_at`, but for the thread: the worker gets here while the guest runs. The
        // bytes are written, never read, and are the device's until the request is answered.
        unsafe { ptr::write_bytes(slice.0.iov_base.cast::<u8>(), 0, slice.len()) };
    }
}

/// Calls `visit` with the pieces that make up `len` bytes from `offset` on, each with its distance
/// from `offset`; the distance plus the piece's length never exceeds `len`. False if `len` bytes are
/// not there.
fn each_piece(
    slices: &[GuestSlice],
    offset: usize,
    len: usize,
    mut visit: impl FnMut(GuestSlice, usize),
) -> bool {
    let mut skip = offset;
    let mut done = 0;
    for slice in slices {
        let piece = slice.skip(skip).truncate(len - done);
        skip -= skip.min(slice.len());
        if piece.len() > 0 {
            visit(piece, done);
            done += piece.len();
        }
    }
    done == len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Slices over the pieces of `backing`, which must outlive them.
    fn slices(backing: &mut [Vec<u8>]) -> Vec<GuestSlice> {
        backing
            .iter_mut()
            .map(|piece| {
                let iov_base = piece.as_mut_ptr().cast();
                GuestSlice(libc::iovec { iov_base, iov_len: piece.len() })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn slices_behave_as_their_concatenation(
            mut backing in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            offset in 0_usize..40,
            len in 0_usize..40,
        ) {
            let flat = backing.concat();
            let all = slices(&mut backing);
            prop_assert_eq!(total_len(&all), flat.len());

            let mut read = vec![0; len];
            let complete = read_at(&all, offset, &mut read);
            prop_assert_eq!(complete, offset + len <= flat.len() || len == 0);
            if complete && len > 0 {
                prop_assert_eq!(&read, &flat[offset..offset + len]);
            }

            let mut cut = all.clone();
            skip_bytes(&mut cut, offset);
            truncate_bytes(&mut cut, len);
            let expect: Vec<u8> = flat.iter().copied().skip(offset).take(len).collect();
            let mut found = vec![0; total_len(&cut)];
            prop_assert!(read_at(&cut, 0, &mut found));
            prop_assert_eq!(found, expect);

            let marks = vec![0xEE; len];
            if write_at(&all, offset, &marks) && len > 0 {
                prop_assert_eq!(&backing.concat()[offset..offset + len], &marks);
            }
        }
    }
}
