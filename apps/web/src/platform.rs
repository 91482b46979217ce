//! The kernel's time, disk and connections as `paravane-http` wants them.
use bytes::Bytes;
use paravane_http::{BlockSource, Clock, SECTOR_LEN, Transport};
use paravane_kernel::block::{Buffer, Disk};
use paravane_kernel::net::{NetError, TcpStream};
use paravane_kernel::time::{self, Instant, Sleep};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

/// The guest's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelClock;

impl Clock for KernelClock {
    type Sleep = Sleep;

    fn now_ns(&self) -> u64 {
        time::now().as_nanos()
    }

    fn unix_seconds(&self) -> u64 {
        time::wall_clock_ns() / 1_000_000_000
    }

    fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        time::sleep_until(Instant::from_nanos(deadline_ns))
    }
}

/// The block device with the site.
#[derive(Clone, Debug)]
pub(crate) struct SiteDisk(Disk);

impl SiteDisk {
    pub(crate) fn new(disk: Disk) -> Self {
        Self(disk)
    }
}

impl BlockSource for SiteDisk {
    type Buffer = Buffer;

    fn len(&self) -> u64 {
        self.0.capacity_sectors().saturating_mul(SECTOR_LEN)
    }

    fn buffer(&self, capacity: usize) -> io::Result<Buffer> {
        self.0.buffer(capacity).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    fn read(
        &self,
        offset: u64,
        buffer: Buffer,
        len: usize,
    ) -> impl Future<Output = io::Result<Buffer>> + 'static {
        let disk = self.0.clone();
        async move {
            let read = disk.read_buffer(offset / SECTOR_LEN, buffer, len).await;
            read.map_err(|error| io::Error::other(format!("{error:?}")))
        }
    }
}

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Stream(pub(crate) TcpStream);

impl Transport for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buffer).map_err(to_io)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes).map_err(to_io)
    }

    fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.0.poll_write_bytes(cx, bytes).map_err(to_io)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx).map_err(to_io)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_close(cx)).map_err(to_io)?;
        self.0.poll_acknowledged(cx).map_err(to_io)
    }

    fn abort(&mut self) {
        self.0.abort();
    }

    fn peer_address(&self) -> SocketAddr {
        self.0.peer_address()
    }
}

fn to_io(error: NetError) -> io::Error {
    let kind = match error {
        NetError::Tcp(_) => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::NetworkDown,
    };
    io::Error::new(kind, error)
}
