//! Many connections, one after the other and side by side: nothing of them stays.
use super::lan::{GUEST, Lan, PEER, PEER_INTERFACE, Pair, resident_len};
use super::relay::Impairment;
use super::services::{
    ECHO, SOURCE, check_download, connect_from, memory_returns, memory_used, ping,
};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Context, Result, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many connections, if it is not this.
const COUNT_VARIABLE: &str = "PARAVANE_CHURN_CONNECTIONS";
const COUNT: u64 = 50_000;

/// Clients at a time, and the addresses that they have.
const CLIENTS: usize = 4;
const ADDRESSES: u64 = 16;

/// How much more of the host's memory a domain may take after the second half of the connections than
/// after the first, bytes.
const RESIDENT_MORE_MAX: u64 = 3 << 20;

/// More than there are ports for connections of the guest (RFC 6335, 6).
const OUTGOING_COUNT: u64 = 20_000;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("churn-of-connections", incoming),
        case("churn-of-the-guests-connections", outgoing),
        case("churn-on-one-pair-of-ports", same_ports),
    ]
}

fn count() -> Result<u64> {
    match std::env::var(COUNT_VARIABLE) {
        Ok(count) => count.parse().with_context(|| format!("{COUNT_VARIABLE}={count}")),
        Err(_) => Ok(COUNT),
    }
}

/// Connections from many addresses, ended in every way. Afterwards, the guest has the memory that it had.
fn incoming(backend: Backend) -> Result<()> {
    let (pair, count) = (Pair::new(backend, Impairment::default(), 1)?, count()?);
    for address in 0..ADDRESSES {
        let address = format!("{}/24", client(address));
        pair.linux.run(&["ip", "address", "add", &address, "dev", PEER_INTERFACE])?;
    }
    pair.all(&[&ping])?;
    let used_before = pair.linux.inside(memory_used)?;
    let mut resident = Vec::new();
    for half in 0..2 {
        clients(&pair, half * count / 2..(half + 1) * count / 2)?;
        resident.push(resident_len(&pair.lan.domain)?);
    }
    let used = pair.linux.inside(|| memory_returns(used_before))?;
    println!("{count} connections: heap {used_before} to {used}, resident {resident:?} bytes");
    let more = resident[1].saturating_sub(resident[0]);
    ensure!(more <= RESIDENT_MORE_MAX, "{more} bytes more of the host's memory");
    pair.all(&[&ping])?;
    pair.finish()
}

fn client(number: u64) -> Ipv4Addr {
    let last = u8::try_from(10 + number % ADDRESSES).unwrap_or(10);
    Ipv4Addr::new(10, 77, 0, last)
}

/// Makes the connections of these numbers, several at a time.
fn clients(pair: &Pair, numbers: std::ops::Range<u64>) -> Result<()> {
    let next = AtomicU64::new(numbers.start);
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= numbers.end {
            return Ok(());
        }
        once(number).with_context(|| format!("connection {number}"))?;
    };
    let work: &(dyn Fn() -> Result<()> + Sync) = &work;
    pair.all(&[work; CLIENTS])
}

/// Most connections are closed by the guest, some by the client, and some reset in the middle.
fn once(number: u64) -> Result<()> {
    let address = client(number / 8);
    match number % 8 {
        0..6 => fetch(connect_from(address, 0, SOURCE)?),
        6 => {
            let mut stream = connect_from(address, 0, ECHO)?;
            stream.write_all(b"echo")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(answer == b"echo", "{answer:?}");
            Ok(())
        }
        _ => {
            // What is not read when it is dropped makes Linux reset the connection.
            let mut stream = connect_from(address, 0, SOURCE)?;
            stream.write_all(&1000_u64.to_be_bytes())?;
            Ok(stream.read_exact(&mut [0])?)
        }
    }
}

fn fetch(mut stream: TcpStream) -> Result<()> {
    stream.write_all(&100_u64.to_be_bytes())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    check_download(&all, 100)
}

/// The same pair of ports again and again, of which the guest closes first: Linux's numbers rise, so that
/// each is a new connection although the guest still remembers the one before.
fn same_ports(backend: Backend) -> Result<()> {
    let pair = Pair::new(backend, Impairment::default(), 1)?;
    let work = || (0..500).try_for_each(|_| fetch(again()?));
    pair.all(&[&work])?;
    pair.finish()
}

/// A connection from the same port as the last one, when Linux has heard that that is over.
fn again() -> Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match connect_from(PEER, 5555, SOURCE) {
            Err(error) if is_taken(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_micros(200));
            }
            result => return result,
        }
    }
}

/// Whether the last connection is still there.
fn is_taken(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable))
}

/// The guest opens more connections than it has ports, and closes them first.
fn outgoing(backend: Backend) -> Result<()> {
    let count = OUTGOING_COUNT.to_string();
    let lan = Lan::with(backend, &["connect", "10.77.0.1:7000", &count], "waiting for the server")?;
    let mut pair = Pair::around(lan, Impairment::default(), 1)?;
    pair.linux.inside(|| {
        let listener = TcpListener::bind((PEER, 7000))?;
        // With the first one the guest only finds out that the server is there.
        drop(listener.accept()?);
        for number in 0..OUTGOING_COUNT {
            let (mut stream, guest) = listener.accept()?;
            ensure!(guest.ip() == GUEST, "a connection from {guest}");
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            serve(&mut stream).with_context(|| format!("connection {number}"))?;
        }
        Ok(())
    })?;
    pair.lan.domain.wait_for("passed")?;
    pair.relay.stop()?;
    pair.lan.domain.ended()?.expect(0, &["passed"])
}

fn serve(stream: &mut TcpStream) -> Result<()> {
    let mut asked = [0];
    stream.read_exact(&mut asked)?;
    stream.write_all(&asked)?;
    ensure!(stream.read(&mut asked)? == 0, "more than was asked for");
    Ok(())
}
