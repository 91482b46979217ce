//! What the server needs of the machine below it: time, a disk and byte streams.
//!
//! The web appliance implements these on the guest kernel, the tests on virtual time and memory.
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// Bytes of a disk sector: offsets and lengths of disk reads are multiples of it.
pub const SECTOR_LEN: u64 = 512;

/// The same, where bytes in memory are counted.
pub(crate) const SECTOR_SIZE: usize = 512;

/// Monotonic and wall-clock time.
pub trait Clock: Clone + 'static {
    /// A future that is ready at some time.
    type Sleep: Future<Output = ()> + 'static;

    /// Monotonic time since an arbitrary origin, ns.
    fn now_ns(&self) -> u64;

    /// Unix time, whole seconds.
    fn unix_seconds(&self) -> u64;

    /// Waits until [`Clock::now_ns`] is at least `deadline_ns`.
    fn sleep_until(&self, deadline_ns: u64) -> Self::Sleep;
}

/// The read-only disk that holds the site.
pub trait BlockSource: Clone + 'static {
    /// Memory that is read into; its bytes are those of the last read.
    type Buffer: AsRef<[u8]> + Send + 'static;

    /// Size of the disk, bytes.
    fn len(&self) -> u64;

    /// Whether the disk has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A buffer for reads of up to `capacity` bytes, at least one.
    ///
    /// # Errors
    /// Memory ran out.
    fn buffer(&self, capacity: usize) -> io::Result<Self::Buffer>;

    /// Reads the `len` bytes at `offset` into `buffer` and gives it back.
    ///
    /// `offset` and `len` are multiples of [`SECTOR_LEN`], and `len` is not 0. A read beyond the end
    /// of the disk or of the buffer fails.
    fn read(
        &self,
        offset: u64,
        buffer: Self::Buffer,
        len: usize,
    ) -> impl Future<Output = io::Result<Self::Buffer>> + 'static;
}

/// A connected byte stream, as TCP gives it.
pub trait Transport: Unpin + 'static {
    /// Reads what has arrived; 0 bytes mean that the peer sends no more.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Takes bytes to send, as many as there is room for and at least one.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// As [`Transport::poll_write`], and takes what it sends off the front of `bytes`: they may be sent
    /// from where they are.
    fn poll_write_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes)
    -> Poll<io::Result<()>>;

    /// Waits until what was written is on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that nothing more will be sent, and waits until it has all that was.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the connection at once (TCP: with a reset).
    fn abort(&mut self);

    /// The other end.
    fn peer_address(&self) -> SocketAddr;
}
