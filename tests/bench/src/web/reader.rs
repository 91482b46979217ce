//! Long downloads: one connection, one file after the other, what comes is thrown away.
use super::http::{Head, Moved, connect, on_client_cpu, request};
use super::site::File;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// What is read at a time, bytes.
const BUFFER_LEN: usize = 256 << 10;

/// Downloads a file again and again for some seconds; the last one is cut off. Bytes of bodies count.
pub(crate) fn run(address: &str, file: File, seconds: u32) -> Result<Moved> {
    on_client_cpu(address, seconds, move |address, time| download(address, file, time))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
fn download(address: &str, file: File, time: Duration) -> Result<Moved> {
    let mut stream = connect(address)?;
    let request = request(file);
    let mut buffer = vec![0; BUFFER_LEN];
    let (start, mut bytes) = (Instant::now(), 0usize);
    while start.elapsed() < time {
        stream.write_all(request.as_bytes()).context("asking for a file")?;
        let mut missing = read_head(&mut stream, &mut buffer, file)?;
        bytes += file.len() - missing;
        while missing > 0 && start.elapsed() < time {
            let len = stream.read(&mut buffer).context("reading a body")?;
            ensure!((1..=missing).contains(&len), "{len} bytes came, {missing} were missing");
            missing -= len;
            bytes += len;
        }
    }
    Ok(Moved { bytes: bytes as f64, seconds: start.elapsed().as_secs_f64() })
}

/// Reads to the end of a head, and returns how many bytes of the body have not come with it.
fn read_head(stream: &mut impl Read, buffer: &mut [u8], file: File) -> Result<usize> {
    let mut filled = 0;
    loop {
        let len = stream.read(&mut buffer[filled..]).context("reading a head")?;
        ensure!(len > 0, "the connection ended within a head");
        filled += len;
        if let Some(head) = Head::parse(&buffer[..filled])? {
            ensure!(head.body_len == file.len(), "a body of {} bytes", head.body_len);
            let missing = (head.len + head.body_len).checked_sub(filled);
            return missing.context("more came than was asked for");
        }
    }
}
