//! The services of the guest `net-surface`, and clients of them that use Linux's TCP.
use super::lan::{GUEST, GUEST6};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// Gives back all that came when all has come; datagrams come back, too.
pub(super) const ECHO: u16 = 7;
/// Answers with length and hash of what came.
pub(super) const DIGEST: u16 = 9;
/// The same, but reads late.
pub(super) const LATE_DIGEST: u16 = 10;
/// Takes a length, answers with as many bytes and their hash.
pub(super) const SOURCE: u16 = 19;
/// Gives back what comes as it comes.
pub(super) const STREAM_ECHO: u16 = 20;
/// Closes first, and prints how much still came.
pub(super) const FAREWELL: u16 = 21;
/// Tells how much of the heap is in use.
pub(super) const MEMORY: u16 = 22;

/// Bytes of a SHA-256.
pub(super) const HASH_LEN: usize = 32;

/// How long a connection may stand still; a bound against hanging.
const STALL_MAX: Duration = Duration::from_secs(60);

/// By which of its addresses the guest is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn guest(self) -> IpAddr {
        match self {
            Self::V4 => GUEST.into(),
            Self::V6 => GUEST6.into(),
        }
    }
}

/// A connection to a service of the guest, from the namespace that the thread is in.
pub(super) fn connect(family: Family, port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((family.guest(), port));
    let stream = TcpStream::connect_timeout(&address, STALL_MAX).context("connecting")?;
    stream.set_read_timeout(Some(STALL_MAX))?;
    stream.set_write_timeout(Some(STALL_MAX))?;
    Ok(stream)
}

/// Bytes of the client's own, different for each seed.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = super::random::Random::new(seed);
    let words = std::iter::repeat_with(|| random.next().to_be_bytes());
    words.flatten().take(len).collect()
}

/// Fetches `len` bytes and checks them.
pub(super) fn download(family: Family, len: usize) -> Result<()> {
    let mut stream = connect(family, SOURCE)?;
    stream.write_all(&(len as u64).to_be_bytes())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).with_context(|| format!("download, {} bytes in", all.len()))?;
    check_download(&all, len)
}

/// Whether `all` are `len` bytes and their hash.
pub(super) fn check_download(all: &[u8], len: usize) -> Result<()> {
    ensure!(all.len() == len + HASH_LEN, "{} bytes instead of {len} and the hash", all.len());
    let (bytes, hash) = all.split_at(len);
    ensure!(Sha256::digest(bytes)[..] == *hash, "the {len} bytes are not those that were sent");
    Ok(())
}

/// Sends `len` bytes to a service that answers with their digest.
pub(super) fn upload(family: Family, port: u16, len: usize) -> Result<()> {
    let mut stream = connect(family, port)?;
    let bytes = noise(len as u64, len);
    stream.write_all(&bytes).context("upload")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("the answer to an upload")?;
    check_digest(&answer, &bytes)
}

/// Whether `answer` is the digest of `bytes`.
pub(super) fn check_digest(answer: &[u8], bytes: &[u8]) -> Result<()> {
    let (len, hash) = answer.split_at_checked(8).context("no digest")?;
    let arrived = u64::from_be_bytes(len.try_into()?);
    ensure!(arrived == bytes.len() as u64, "{arrived} bytes arrived of {}", bytes.len());
    ensure!(Sha256::digest(bytes)[..] == *hash, "the bytes that arrived are not those sent");
    Ok(())
}

/// Sends `len` bytes and takes them back at the same time.
pub(super) fn exchange(family: Family, len: usize) -> Result<()> {
    let mut stream = connect(family, STREAM_ECHO)?;
    let mut writer = stream.try_clone()?;
    let bytes = noise(!(len as u64), len);
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let written = scope.spawn(|| -> Result<()> {
            writer.write_all(&bytes).context("exchange: sending")?;
            Ok(writer.shutdown(Shutdown::Write)?)
        });
        stream.read_to_end(&mut back).context("exchange: receiving")?;
        written.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })?;
    ensure!(back == bytes, "{} bytes came back of {len}, or others", back.len());
    Ok(())
}

/// A byte there and back.
pub(super) fn ping() -> Result<()> {
    exchange(Family::V4, 1)
}

/// Bytes of the guest's heap that are in use.
pub(super) fn memory_used() -> Result<u64> {
    let mut text = String::new();
    connect(Family::V4, MEMORY)?.read_to_string(&mut text)?;
    Ok(text.parse()?)
}

/// What the guest may keep of its heap, bytes: buffers and tables that it uses again. A hundred bytes for
/// each of 50,000 connections or frames would be more.
const HEAP_MORE_MAX: u64 = 4 << 20;

/// How long the guest may remember what is over.
const FORGETTING: Duration = Duration::from_secs(90);

/// Waits until no more of the heap is in use than `before`, but for what may be kept.
pub(super) fn memory_returns(before: u64) -> Result<u64> {
    let deadline = Instant::now() + FORGETTING;
    loop {
        let used = memory_used()?;
        if used <= before + HEAP_MORE_MAX {
            return Ok(used);
        }
        let is_early = Instant::now() < deadline;
        ensure!(is_early, "{used} bytes of the heap are in use, {before} were before");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A connection from an address of the namespace that the thread is in; from a port of one's own choice
/// if that is not 0. Ports in TIME-WAIT are taken, too.
pub(super) fn connect_from(address: Ipv4Addr, port: u16, to: u16) -> Result<TcpStream> {
    // SAFETY: makes a descriptor and touches no memory.
    let descriptor =
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    ensure!(descriptor >= 0, "socket: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and a socket's.
    let stream = unsafe { TcpStream::from_raw_fd(descriptor) };
    // It bounds the connecting, too.
    stream.set_write_timeout(Some(STALL_MAX))?;
    stream.set_read_timeout(Some(STALL_MAX))?;
    set_option(&stream, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    // Ports are chosen when it connects: those of other connections count only if they go to the same end.
    set_option(&stream, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    named(&stream, address, port, libc::bind).context("bind")?;
    named(&stream, GUEST, to, libc::connect)
        .with_context(|| format!("connecting from {address}"))?;
    Ok(stream)
}

fn set_option(stream: &TcpStream, level: i32, option: i32) -> Result<()> {
    let one: libc::c_int = 1;
    let len = size_of_val(&one).try_into()?;
    let value = (&raw const one).cast();
    // SAFETY: reads an int, which outlives the call.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), level, option, value, len) };
    ensure!(result == 0, "setsockopt: {}", std::io::Error::last_os_error());
    Ok(())
}

/// `bind` or `connect`.
type Naming = unsafe extern "C" fn(i32, *const libc::sockaddr, libc::socklen_t) -> i32;

fn named(stream: &TcpStream, address: Ipv4Addr, port: u16, call: Naming) -> Result<()> {
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET.try_into()?,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: address.to_bits().to_be() },
        sin_zero: [0; 8],
    };
    let len = size_of_val(&name).try_into()?;
    // SAFETY: both calls read a name of this length, which outlives them.
    let result = unsafe { call(stream.as_raw_fd(), (&raw const name).cast(), len) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}
