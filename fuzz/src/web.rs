//! What the web server needs of the machine below it: virtual time, a disk and a connection in memory.

use bytes::{Buf, Bytes};
use paravane_http::{BlockSource, Clock, Transport};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

const SECOND_NS: u64 = 1_000_000_000;

/// Time that moves only when told to.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<Cell<u64>>);

impl VirtualClock {
    /// Lets a second pass.
    pub fn tick(&self) {
        self.0.set(self.0.get() + SECOND_NS);
    }
}

/// Ready from a time on. It wakes nobody: everything is polled whenever time has moved.
#[derive(Debug)]
pub struct Sleep(VirtualClock, u64);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.now_ns() >= self.1 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Clock for VirtualClock {
    type Sleep = Sleep;

    fn now_ns(&self) -> u64 {
        self.0.get()
    }

    fn unix_seconds(&self) -> u64 {
        784_111_777 + self.now_ns() / SECOND_NS
    }

    fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        Sleep(self.clone(), deadline_ns)
    }
}

/// A disk in memory.
#[derive(Clone, Debug)]
pub struct MemoryDisk(pub Rc<Vec<u8>>);

impl BlockSource for MemoryDisk {
    type Buffer = Vec<u8>;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn buffer(&self, capacity: usize) -> io::Result<Vec<u8>> {
        Ok(Vec::with_capacity(capacity))
    }

    fn read(
        &self,
        offset: u64,
        mut buffer: Vec<u8>,
        len: usize,
    ) -> impl Future<Output = io::Result<Vec<u8>>> + 'static {
        assert!(offset.is_multiple_of(512) && len.is_multiple_of(512));
        let start = usize::try_from(offset).expect("64 bits");
        let source = self.0.get(start..).and_then(|rest| rest.get(..len));
        let result = source.map(|source| {
            buffer.clear();
            buffer.extend_from_slice(source);
        });
        async move { result.map(|()| buffer).ok_or_else(|| io::ErrorKind::InvalidInput.into()) }
    }
}

/// A connection whose client has sent everything beforehand, and then waits or hangs up.
#[derive(Debug)]
pub struct Connection {
    /// What arrives with each read.
    pub to_server: VecDeque<Vec<u8>>,
    /// Whether the client hangs up after that.
    pub hangs_up: bool,
    /// What the server sent.
    pub to_client: Rc<RefCell<Vec<u8>>>,
}

impl Transport for Connection {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(mut part) = self.to_server.pop_front().filter(|part| !part.is_empty()) else {
            let is_over = self.hangs_up && self.to_server.is_empty();
            return if is_over { Poll::Ready(Ok(0)) } else { Poll::Pending };
        };
        let len = part.len().min(buffer.len());
        buffer[..len].copy_from_slice(&part[..len]);
        if len < part.len() {
            self.to_server.push_front(part.split_off(len));
        }
        Poll::Ready(Ok(len))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.to_client.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.poll_write(cx, bytes).map_ok(|count| bytes.advance(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}

    fn peer_address(&self) -> SocketAddr {
        ([10, 0, 2, 2], 1024).into()
    }
}
