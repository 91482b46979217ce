//! A plain epoll server, one thread: `net-load-native ADDRESS SINK SOURCE ECHO` serves three TCP ports
//! as the guest `net-load` does.
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// What is read or written at a time, bytes.
const CHUNK_LEN: usize = 256 << 10;

static ZEROES: [u8; CHUNK_LEN] = [0; CHUNK_LEN];

/// Connections that may wait to be taken.
const BACKLOG: i32 = 65_535;

/// What is done with a connection.
#[derive(Clone, Copy)]
enum Service {
    Sink,
    Source,
    Echo,
}

struct Connection {
    stream: TcpStream,
    service: Service,
    /// Bytes taken so far.
    count: u64,
    /// What was read and could not be written yet.
    pending: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum State {
    Open,
    Done,
}

struct Epoll(RawFd);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, ports @ ..] = &arguments[..] else { anyhow::bail!("no address") };
    let address: IpAddr = address.parse().context("the address")?;
    let epoll = Epoll::new()?;
    let mut listeners = HashMap::new();
    for (port, service) in ports.iter().zip([Service::Sink, Service::Source, Service::Echo]) {
        let listener = listen(address, port.parse().context("a port")?)?;
        epoll.add(listener.as_raw_fd())?;
        listeners.insert(listener.as_raw_fd(), (listener, service));
    }
    serve(&epoll, &listeners)
}

fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((address, port)).context("listening")?;
    listener.set_nonblocking(true)?;
    // SAFETY: listen has no memory effects.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

fn serve(epoll: &Epoll, listeners: &HashMap<RawFd, (TcpListener, Service)>) -> Result<()> {
    let mut connections: HashMap<RawFd, Connection> = HashMap::new();
    let mut buffer = vec![0; CHUNK_LEN];
    loop {
        for fd in epoll.wait()? {
            if let Some((listener, service)) = listeners.get(&fd) {
                accept(epoll, listener, *service, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&fd)
                // A client that goes ends its connection, and nothing else.
                && connection.serve(&mut buffer).unwrap_or(State::Done) == State::Done
            {
                connections.remove(&fd);
            }
        }
    }
}

fn accept(
    epoll: &Epoll,
    listener: &TcpListener,
    service: Service,
    connections: &mut HashMap<RawFd, Connection>,
) -> Result<()> {
    while let Some((stream, _)) = unless_blocked(listener.accept())? {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll.add(stream.as_raw_fd())?;
        let connection = Connection { stream, service, count: 0, pending: Vec::new() };
        connections.insert(connection.stream.as_raw_fd(), connection);
    }
    Ok(())
}

impl Connection {
    fn serve(&mut self, buffer: &mut [u8]) -> io::Result<State> {
        match self.service {
            Service::Sink => self.sink(buffer),
            Service::Source => self.source(),
            Service::Echo => self.echo(buffer),
        }
    }

    fn sink(&mut self, buffer: &mut [u8]) -> io::Result<State> {
        while let Some(len) = unless_blocked(self.stream.read(buffer))? {
            if len == 0 {
                // The first bytes of all that are sent: there is room for them.
                self.stream.write_all(&self.count.to_be_bytes())?;
                return Ok(State::Done);
            }
            self.count += len as u64;
        }
        Ok(State::Open)
    }

    fn source(&mut self) -> io::Result<State> {
        while unless_blocked(self.stream.write(&ZEROES))?.is_some() {}
        Ok(State::Open)
    }

    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<State> {
        loop {
            while !self.pending.is_empty() {
                let Some(len) = unless_blocked(self.stream.write(&self.pending))? else {
                    return Ok(State::Open);
                };
                self.pending.drain(..len);
            }
            match unless_blocked(self.stream.read(buffer))? {
                None => return Ok(State::Open),
                Some(0) => return Ok(State::Done),
                Some(len) => self.pending.extend_from_slice(&buffer[..len]),
            }
        }
    }
}

impl Epoll {
    fn new() -> Result<Self> {
        // SAFETY: epoll_create1 has no memory effects.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        check(fd)?;
        Ok(Self(fd))
    }

    /// Watches for whatever happens, told once each time.
    fn add(&self, fd: RawFd) -> Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: u64::try_from(fd)? };
        // SAFETY: the event outlives the call.
        check(unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &raw mut event) })
    }

    /// The files to which something has happened.
    fn wait(&self) -> Result<Vec<RawFd>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        // SAFETY: the kernel writes no more events than there is room for, 256.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), 256, -1) };
        if count < 0 && io::Error::last_os_error().kind() == ErrorKind::Interrupted {
            return Ok(Vec::new());
        }
        check(count)?;
        let told = &events[..usize::try_from(count)?];
        told.iter().map(|event| Ok(RawFd::try_from(event.u64)?)).collect()
    }
}

/// None for what would have to wait.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

fn check(result: i32) -> Result<()> {
    if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}
