//! What a block device stores its sectors in.
use super::super::slices::{GuestSlice, SLICES_MAX, clear_bytes, skip_bytes, total_len};
use rustix::fs::fstatfs;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Where sectors are kept. A seam: tests and simulations put failing storage here.
///
/// Offsets and lengths are bytes, lie within the capacity, and are multiples of the sector size.
pub(super) trait Storage: std::fmt::Debug + Send + Sync {
    /// Fills `slices` from `offset` on if that needs no waiting. False if it does, with the slices in
    /// an unspecified state.
    ///
    /// # Errors
    /// The medium failed.
    fn try_read(&self, offset: u64, slices: &[GuestSlice]) -> io::Result<bool>;

    /// Fills `slices` from `offset` on. What lies behind the end of the medium reads as zeroes.
    ///
    /// # Errors
    /// The medium failed.
    fn read(&self, offset: u64, slices: &mut Vec<GuestSlice>) -> io::Result<()>;

    /// Writes `slices` from `offset` on.
    ///
    /// # Errors
    /// The medium failed or is full; some of the bytes may be written.
    fn write(&self, offset: u64, slices: &mut Vec<GuestSlice>) -> io::Result<()>;

    /// Returns when everything written before is on stable storage.
    ///
    /// # Errors
    /// The medium failed.
    fn flush(&self) -> io::Result<()>;

    /// Gives the room of `len` bytes from `offset` on back; they read as zeroes afterwards.
    ///
    /// # Errors
    /// The medium failed or cannot do it.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// The descriptor of the medium.
    fn descriptor(&self) -> RawFd;
}

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// `preadv` or `pwritev`.
type VectoredCall = unsafe extern "C" fn(i32, *const libc::iovec, i32, i64) -> isize;

/// A regular file or a block device of the host.
#[derive(Debug)]
pub(super) struct FileStorage {
    file: File,
    /// Flags of reads that must not wait.
    no_wait: i32,
}

impl FileStorage {
    /// Storage in `file`, which is open for reading and, unless the device is read-only, for writing.
    pub(super) fn new(file: File) -> Self {
        // A file in memory is never waited for, and knows no such mode.
        let is_in_memory = fstatfs(&file).is_ok_and(|system| system.f_type == TMPFS_MAGIC);
        let no_wait = if is_in_memory { 0 } else { libc::RWF_NOWAIT };
        Self { file, no_wait }
    }

    /// Repeats `call` until `slices` are done or it does nothing more; leaves what is not done.
    fn transfer(
        &self,
        mut offset: u64,
        slices: &mut Vec<GuestSlice>,
        call: VectoredCall,
    ) -> io::Result<()> {
        while total_len(slices) > 0 {
            let done = self.call_once(offset, slices, call)?;
            if done == 0 {
                return Ok(());
            }
            skip_bytes(slices, done);
            offset += done as u64;
        }
        Ok(())
    }

    fn call_once(
        &self,
        offset: u64,
        slices: &[GuestSlice],
        call: VectoredCall,
    ) -> io::Result<usize> {
        loop {
            // SAFETY: `call` is preadv or pwritev; `GuestSlice` is transparent over `iovec`, and every slice
            // names guest RAM, which stays mapped and of which no reference exists.
            let result = unsafe {
                call(self.file.as_raw_fd(), slices.as_ptr().cast(), count(slices), signed(offset)?)
            };
            match usize::try_from(result) {
                Ok(done) => return Ok(done),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl Storage for FileStorage {
    fn try_read(&self, offset: u64, slices: &[GuestSlice]) -> io::Result<bool> {
        let wanted = total_len(slices);
        // SAFETY: as in `call_once`.
        let result = unsafe {
            libc::preadv2(
                self.file.as_raw_fd(),
                slices.as_ptr().cast(),
                count(slices),
                signed(offset)?,
                self.no_wait,
            )
        };
        // Too little, nothing without waiting, or no such mode in this file system: the slow path
        // finds out which, and whether it is an error.
        Ok(usize::try_from(result).is_ok_and(|done| done == wanted))
    }

    fn read(&self, offset: u64, slices: &mut Vec<GuestSlice>) -> io::Result<()> {
        self.transfer(offset, slices, libc::preadv)?;
        clear_bytes(slices);
        Ok(())
    }

    fn write(&self, offset: u64, slices: &mut Vec<GuestSlice>) -> io::Result<()> {
        self.transfer(offset, slices, libc::pwritev)?;
        if total_len(slices) > 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (offset, len) = (signed(offset)?, signed(len)?);
        // SAFETY: takes no pointers.
        let result = unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, len) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn count(slices: &[GuestSlice]) -> i32 {
    i32::try_from(slices.len().min(SLICES_MAX)).unwrap_or(i32::MAX)
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}
