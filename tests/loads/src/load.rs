//! The loads.
use crate::{Machine, STORE_LEN};
use futures_util::future::try_join_all;
use paravane_kernels::Random;
use std::io;

/// Bytes of a small request.
const BLOCK: usize = 4 << 10;
/// Bytes of the smallest request.
const SECTOR: usize = 512;
/// Bytes that caches of a processor keep.
const FRONT: u64 = 256 << 10;
/// Bytes of a large request.
const LARGE: usize = 1 << 20;

/// Something to do with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// The cheapest call.
    Call,
    /// 4 KiB somewhere, one after the other.
    RandomRead,
    /// The same, sixteen at a time.
    RandomRead16,
    /// 512 bytes at the front, 64 at a time: what a request costs that moves next to nothing.
    SmallRead64,
    /// 4 KiB somewhere, one after the other, not flushed.
    RandomWrite,
    /// 4 KiB somewhere, flushed: what a small transaction waits for.
    Commit,
    /// From the beginning to the end by 1 MiB.
    SequentialRead,
    /// From the beginning to a quarter by 1 MiB, flushed at the end.
    SequentialWrite,
}

/// All of them.
pub const LOADS: [Load; 8] = [
    Load::Call,
    Load::RandomRead,
    Load::RandomRead16,
    Load::SmallRead64,
    Load::RandomWrite,
    Load::Commit,
    Load::SequentialRead,
    Load::SequentialWrite,
];

impl Load {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::RandomRead => "read-4k",
            Self::RandomRead16 => "read-4k-x16",
            Self::SmallRead64 => "read-512-x64",
            Self::RandomWrite => "write-4k",
            Self::Commit => "write-4k-flush",
            Self::SequentialRead => "read-sequential",
            Self::SequentialWrite => "write-sequential",
        }
    }

    /// Operations, or for the sequential loads bytes, of one pass.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Self::Call => 10_000,
            Self::RandomRead | Self::RandomWrite => 256,
            Self::RandomRead16 => 16 * 64,
            Self::SmallRead64 => 64 * 64,
            Self::Commit => 16,
            Self::SequentialRead => STORE_LEN,
            Self::SequentialWrite => STORE_LEN / 4,
        }
    }

    /// Whether [`size`](Self::size) is in bytes.
    #[must_use]
    pub fn is_sequential(self) -> bool {
        matches!(self, Self::SequentialRead | Self::SequentialWrite)
    }

    /// Does it once. Returns a checksum of what was read.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn pass(self, machine: &impl Machine) -> io::Result<u64> {
        let mut random = Random::new();
        match self {
            Self::Call => (0..self.size()).for_each(|_| machine.call()),
            Self::RandomRead => return read_random(machine, self.size(), &mut random).await,
            Self::RandomRead16 => {
                return read_together::<16>(machine, self.size(), (BLOCK, STORE_LEN), &mut random)
                    .await;
            }
            Self::SmallRead64 => {
                return read_together::<64>(machine, self.size(), (SECTOR, FRONT), &mut random)
                    .await;
            }
            Self::RandomWrite => write_random(machine, self.size(), &mut random, false).await?,
            Self::Commit => write_random(machine, self.size(), &mut random, true).await?,
            Self::SequentialRead => return read_sequential(machine, self.size()).await,
            Self::SequentialWrite => write_sequential(machine, self.size()).await?,
        }
        Ok(0)
    }
}

/// A multiple of `len` below `end`.
fn place(random: &mut Random, len: usize, end: u64) -> u64 {
    let count = end / len as u64;
    random.next() % count * len as u64
}

fn fold(sum: u64, data: &[u8]) -> u64 {
    data.first_chunk().map_or(sum, |first| sum.rotate_left(7) ^ u64::from_le_bytes(*first))
}

async fn read_random(machine: &impl Machine, count: u64, random: &mut Random) -> io::Result<u64> {
    let mut data = vec![0; BLOCK];
    let mut sum = 0;
    for _ in 0..count {
        machine.read(place(random, BLOCK, STORE_LEN), &mut data).await?;
        sum = fold(sum, &data);
    }
    Ok(sum)
}

async fn read_together<const N: usize>(
    machine: &impl Machine,
    count: u64,
    (len, end): (usize, u64),
    random: &mut Random,
) -> io::Result<u64> {
    let mut buffers: Vec<_> = (0..N).map(|_| vec![0; len]).collect();
    let mut sum = 0;
    for _ in 0..count / N as u64 {
        let reads =
            buffers.iter_mut().map(|data| machine.read(place(random, data.len(), end), data));
        try_join_all(reads).await?;
        sum = buffers.iter().fold(sum, |sum, data| fold(sum, data));
    }
    Ok(sum)
}

async fn write_random(
    machine: &impl Machine,
    count: u64,
    random: &mut Random,
    is_flushed: bool,
) -> io::Result<()> {
    let data = random.bytes(BLOCK);
    for _ in 0..count {
        machine.write(place(random, BLOCK, STORE_LEN), &data).await?;
        if is_flushed {
            machine.flush().await?;
        }
    }
    Ok(())
}

async fn read_sequential(machine: &impl Machine, len: u64) -> io::Result<u64> {
    let mut data = vec![0; LARGE];
    let mut sum = 0;
    for offset in (0..len).step_by(LARGE) {
        machine.read(offset, &mut data).await?;
        sum = fold(sum, &data);
    }
    Ok(sum)
}

async fn write_sequential(machine: &impl Machine, len: u64) -> io::Result<()> {
    let data = vec![0x5a; LARGE];
    for offset in (0..len).step_by(LARGE) {
        machine.write(offset, &data).await?;
    }
    machine.flush().await
}
