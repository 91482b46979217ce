//! Services for clients of all kinds: each port has one.
use crate::read_to_end;
use paravane_kernel::net::{NetError, TcpListener, TcpStream, UdpSocket, wait_configured};
use paravane_kernel::time::sleep;
use paravane_kernel::{memory, stop_requested, task};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Datagrams come back. Connections get what they sent when they have sent everything.
const ECHO: u16 = 7;
/// Takes everything, and answers with its length (8 bytes, big endian) and its SHA-256.
const DIGEST: u16 = 9;
/// As [`DIGEST`], but does not read for the first [`PAUSE`].
const LATE_DIGEST: u16 = 10;
/// Takes a length (8 bytes, big endian), answers with as many bytes and their SHA-256, and closes.
const SOURCE: u16 = 19;
/// Gives back what it gets as it comes.
const STREAM_ECHO: u16 = 20;
/// Says hello and that it is done, and prints how much it still gets.
const FAREWELL: u16 = 21;
/// Tells how many bytes of the heap are in use, in decimal.
const MEMORY: u16 = 22;

/// Long enough for a window to be full and to be asked after.
const PAUSE: Duration = Duration::from_millis(1500);

/// Serves until asked to stop.
pub(crate) async fn serve() -> Result<(), NetError> {
    let socket = UdpSocket::bind(ECHO)?;
    listen(ECHO, echo)?;
    listen(DIGEST, digest)?;
    listen(LATE_DIGEST, late_digest)?;
    listen(SOURCE, source)?;
    listen(STREAM_ECHO, stream_echo)?;
    listen(FAREWELL, farewell)?;
    listen(MEMORY, tell_memory)?;
    println!("address {}", wait_configured().await?);
    task::spawn(async move {
        while let Ok(datagram) = socket.recv_from().await {
            // A full queue loses the answer, as a wire might.
            let _ = socket.send_to(&datagram.data, datagram.remote);
        }
    });
    println!("ready");
    stop_requested().await;
    Ok(())
}

/// Takes connections to `port`, each with a task of its own. A connection that fails is its client's
/// affair.
fn listen<F>(port: u16, service: fn(TcpStream) -> F) -> Result<(), NetError>
where
    F: Future<Output = Result<(), NetError>> + 'static,
{
    let listener = TcpListener::bind(port)?;
    task::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            task::spawn(service(stream));
        }
    });
    Ok(())
}

async fn echo(mut stream: TcpStream) -> Result<(), NetError> {
    let all = read_to_end(&mut stream).await?;
    stream.write_all(&all).await?;
    stream.close().await
}

async fn digest(mut stream: TcpStream) -> Result<(), NetError> {
    let (len, hash) = hash_to_end(&mut stream).await?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(&hash).await?;
    stream.close().await
}

async fn late_digest(stream: TcpStream) -> Result<(), NetError> {
    sleep(PAUSE).await;
    digest(stream).await
}

async fn hash_to_end(stream: &mut TcpStream) -> Result<(u64, [u8; 32]), NetError> {
    let (mut hash, mut all_len) = (Sha256::new(), 0);
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part).await? {
            0 => return Ok((all_len, hash.finalize().into())),
            len => {
                hash.update(&part[..len]);
                all_len += len as u64;
            }
        }
    }
}

async fn source(mut stream: TcpStream) -> Result<(), NetError> {
    let mut wanted = [0; 8];
    let mut known_len = 0;
    while known_len < wanted.len() {
        match stream.read(&mut wanted[known_len..]).await? {
            0 => return Ok(()),
            len => known_len += len,
        }
    }
    let (mut hash, mut left) = (Sha256::new(), u64::from_be_bytes(wanted));
    let mut words = 0..;
    while left > 0 {
        let part: Vec<u8> = words.by_ref().take(512).flat_map(scramble).collect();
        let part = &part[..part.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        hash.update(part);
        stream.write_all(part).await?;
        left -= part.len() as u64;
    }
    stream.write_all(&hash.finalize()).await?;
    stream.close().await
}

/// Bytes that look like no others of the stream (the finalizer of `SplitMix64`).
fn scramble(index: u64) -> [u8; 8] {
    let mut word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ word >> 31).to_be_bytes()
}

async fn stream_echo(mut stream: TcpStream) -> Result<(), NetError> {
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part).await? {
            0 => return stream.close().await,
            len => stream.write_all(&part[..len]).await?,
        }
    }
}

async fn farewell(mut stream: TcpStream) -> Result<(), NetError> {
    stream.write_all(b"hello").await?;
    stream.close().await?;
    let (len, hash) = hash_to_end(&mut stream).await?;
    println!("after the farewell: {len} bytes, first of the hash {:02x}{:02x}", hash[0], hash[1]);
    Ok(())
}

async fn tell_memory(mut stream: TcpStream) -> Result<(), NetError> {
    stream.write_all(memory::stats().used.to_string().as_bytes()).await?;
    stream.close().await
}
