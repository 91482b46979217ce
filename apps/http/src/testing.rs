//! Virtual time, a disk in memory and connections in memory.
use crate::platform::{BlockSource, Clock, Transport};
use crate::server::Server;
use crate::{Config, index};
use bytes::Bytes;
use futures_executor::{LocalPool, LocalSpawner, block_on};
use futures_task::LocalSpawn;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Unix time at virtual time 0.
pub(crate) const EPOCH: u64 = 784_111_777;

/// Time that moves only when told to.
#[derive(Clone, Debug, Default)]
pub(crate) struct VirtualClock(Rc<ClockState>);

#[derive(Debug, Default)]
struct ClockState {
    now_ns: Cell<u64>,
    sleepers: RefCell<Vec<(u64, Waker)>>,
}

pub(crate) struct Sleep(VirtualClock, u64);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self(clock, deadline_ns) = &*self;
        if clock.now_ns() >= *deadline_ns {
            return Poll::Ready(());
        }
        clock.0.sleepers.borrow_mut().push((*deadline_ns, cx.waker().clone()));
        Poll::Pending
    }
}

impl Clock for VirtualClock {
    type Sleep = Sleep;

    fn now_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    fn unix_seconds(&self) -> u64 {
        EPOCH + self.now_ns() / SECOND
    }

    fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        Sleep(self.clone(), deadline_ns)
    }
}

/// A disk that holds a byte string, and may be made to fail.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk {
    pub(crate) bytes: Rc<Vec<u8>>,
    pub(crate) reads: Rc<Cell<usize>>,
    pub(crate) broken: Rc<Cell<bool>>,
}

impl MemoryDisk {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Rc::new(bytes), reads: Rc::default(), broken: Rc::default() }
    }

    fn copy(&self, offset: u64, buffer: &mut Vec<u8>, len: usize) -> io::Result<()> {
        assert!(offset.is_multiple_of(512) && len.is_multiple_of(512));
        assert!((1..=buffer.capacity()).contains(&len));
        self.reads.set(self.reads.get() + 1);
        let start = usize::try_from(offset).unwrap();
        let source = self.bytes.get(start..start + len).filter(|_| !self.broken.get());
        buffer.clear();
        buffer.extend_from_slice(source.ok_or(io::ErrorKind::InvalidInput)?);
        Ok(())
    }
}

impl BlockSource for MemoryDisk {
    type Buffer = Vec<u8>;

    fn len(&self) -> u64 {
        self.bytes.len() as u64
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
        let disk = self.clone();
        async move { disk.copy(offset, &mut buffer, len).map(|()| buffer) }
    }
}

/// One end of a connection in memory: the server's.
#[derive(Debug)]
pub(crate) struct ServerEnd(Rc<RefCell<Pipe>>);

/// The other end: the test's.
#[derive(Clone, Debug)]
pub(crate) struct Client(Rc<RefCell<Pipe>>);

#[derive(Debug, Default)]
struct Pipe {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
    /// What of that was handed over by reference, until the client takes it.
    lent: Vec<Bytes>,
    /// Bytes that the client takes before it stops reading.
    window: usize,
    client_done: bool,
    server_done: bool,
    aborted: bool,
    server: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        if let Some(waker) = self.server.take() {
            waker.wake();
        }
    }
}

impl Client {
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let mut pipe = self.0.borrow_mut();
        pipe.to_server.extend(bytes.as_ref());
        pipe.wake();
    }

    pub(crate) fn finish(&self) {
        let mut pipe = self.0.borrow_mut();
        pipe.client_done = true;
        pipe.wake();
    }

    /// Lets the server send this much more.
    pub(crate) fn open_window(&self, more: usize) {
        let mut pipe = self.0.borrow_mut();
        pipe.window += more;
        pipe.wake();
    }

    pub(crate) fn received(&self) -> Vec<u8> {
        let mut pipe = self.0.borrow_mut();
        pipe.lent.clear();
        std::mem::take(&mut pipe.to_client)
    }

    /// Bytes that the server handed over by reference since the last [`Client::received`].
    pub(crate) fn lent_len(&self) -> usize {
        self.0.borrow().lent.iter().map(Bytes::len).sum()
    }

    pub(crate) fn received_len(&self) -> usize {
        self.0.borrow().to_client.len()
    }

    /// Whether the server closed its end in good order.
    pub(crate) fn is_closed(&self) -> bool {
        let pipe = self.0.borrow();
        pipe.server_done && !pipe.aborted
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.0.borrow().aborted
    }
}

impl Transport for ServerEnd {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        let count = pipe.to_server.len().min(buffer.len());
        if count == 0 && !pipe.client_done {
            pipe.server = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.to_server.read_exact(&mut buffer[..count])?;
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        assert!(!pipe.server_done, "written after closing");
        let count = bytes.len().min(pipe.window);
        if count == 0 {
            pipe.server = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.window -= count;
        pipe.to_client.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.poll_write(cx, bytes))?;
        self.0.borrow_mut().lent.push(bytes.split_to(count));
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().server_done = true;
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.0.borrow_mut().aborted = true;
    }

    fn peer_address(&self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 4000))
    }
}

/// A server on virtual time with a site in memory.
pub(crate) struct Bed {
    pub(crate) clock: VirtualClock,
    pub(crate) disk: MemoryDisk,
    pub(crate) server: Rc<Server<VirtualClock, MemoryDisk>>,
    pub(crate) log: Rc<RefCell<Vec<u8>>>,
    pool: LocalPool,
    spawner: LocalSpawner,
}

impl Bed {
    pub(crate) fn new(archive: Vec<u8>, config: &str) -> Self {
        Self::with_memory(archive, config, 64 << 20)
    }

    pub(crate) fn with_memory(archive: Vec<u8>, config: &str, memory_len: u64) -> Self {
        let (clock, disk) = (VirtualClock::default(), MemoryDisk::new(archive));
        let site = block_on(index(disk.clone())).unwrap();
        let mut config = Config::parse(config.as_bytes()).unwrap();
        // Less than the default, so that there are files that are streamed.
        config.cache.file_bytes.get_or_insert(128 << 10);
        let log = Rc::new(RefCell::new(Vec::new()));
        let copy = Rc::clone(&log);
        let sink = Box::new(move |lines: &[u8]| copy.borrow_mut().extend_from_slice(lines));
        let server = Server::new(config, memory_len, site, disk.clone(), clock.clone(), sink);
        let pool = LocalPool::new();
        let spawner = pool.spawner();
        let mut bed = Self { clock, disk, server, log, pool, spawner };
        bed.spawn(Rc::clone(&bed.server).write_access_log());
        bed.spawn(Rc::clone(&bed.server).rest_idle_connections());
        bed.run();
        bed
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.spawner.spawn_local_obj(Box::pin(future).into()).unwrap();
    }

    /// Connects a client that takes everything.
    pub(crate) fn connect(&mut self) -> Client {
        self.connect_with_window(usize::MAX / 2)
    }

    pub(crate) fn connect_with_window(&mut self, window: usize) -> Client {
        let pipe = Rc::new(RefCell::new(Pipe { window, ..Pipe::default() }));
        self.spawn(Rc::clone(&self.server).serve(ServerEnd(Rc::clone(&pipe))));
        self.run();
        Client(pipe)
    }

    /// A connection of a client that is not there.
    pub(crate) fn transport(&self) -> ServerEnd {
        ServerEnd(Rc::default())
    }

    /// Runs until nothing moves without time.
    pub(crate) fn run(&mut self) {
        self.pool.run_until_stalled();
    }

    /// Lets time pass, from one deadline to the next.
    pub(crate) fn pass(&mut self, duration_ns: u64) {
        let end = self.clock.now_ns() + duration_ns;
        self.run();
        loop {
            let state = Rc::clone(&self.clock.0);
            let next = state.sleepers.borrow().iter().map(|(at, _)| *at).min();
            let Some(next) = next.filter(|&at| at <= end) else { break };
            state.now_ns.set(next.max(self.clock.now_ns()));
            let due = state.sleepers.borrow_mut().extract_if(.., |(at, _)| *at <= next).collect();
            let due: Vec<(u64, Waker)> = due;
            due.into_iter().for_each(|(_, waker)| waker.wake());
            self.run();
        }
        self.clock.0.now_ns.set(end);
    }

    /// What the server answers to these bytes on a connection of their own.
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let client = self.connect();
        client.send(request);
        self.run();
        client.finish();
        self.run();
        client.received()
    }

    /// The access log so far.
    pub(crate) fn log_text(&mut self) -> String {
        self.pass(SECOND);
        String::from_utf8(self.log.borrow().clone()).unwrap()
    }
}

/// A tar archive of these files, all changed at [`EPOCH`].
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mtime(EPOCH);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
