//! Reads an archive's headers through a window that adapts to the size of the files between them.
use crate::platform::{BlockSource, SECTOR_SIZE};
use std::io;

/// After a jump, read this much: the next header may be all that is wanted.
const WINDOW_LEN_MIN: usize = 4 << 10;

/// Where files are small, read this much at once.
const WINDOW_LEN_MAX: usize = 256 << 10;

/// A part of the disk in memory.
pub(super) struct Window<B: BlockSource> {
    source: B,
    buffer: Option<B::Buffer>,
    start: u64,
    next_len: usize,
}

impl<B: BlockSource> Window<B> {
    pub(super) fn new(source: B) -> Self {
        Self { source, buffer: None, start: 0, next_len: WINDOW_LEN_MIN }
    }

    /// Size of the disk, bytes.
    pub(super) fn disk_len(&self) -> u64 {
        self.source.len()
    }

    /// The `len` bytes at `offset`, a multiple of the sector size.
    pub(super) async fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if self.position_of(offset, len).is_none() {
            self.load(offset, len).await?;
        }
        let position = self.position_of(offset, len).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(&self.bytes()[position..position + len])
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], B::Buffer::as_ref)
    }

    fn position_of(&self, offset: u64, len: usize) -> Option<usize> {
        let position = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (position.checked_add(len)? <= self.bytes().len()).then_some(position)
    }

    async fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.adapt(offset);
        let rest = self.disk_len().saturating_sub(offset);
        let wanted = self.next_len.max(len.next_multiple_of(SECTOR_SIZE));
        let len = usize::try_from(rest).map_or(wanted, |rest| wanted.min(rest));
        self.buffer = None;
        let buffer = self.source.buffer(len)?;
        self.buffer = Some(self.source.read(offset, buffer, len).await?);
        self.start = offset;
        Ok(())
    }

    /// Grows the window while most of it is used, and shrinks it when a large file was skipped.
    fn adapt(&mut self, offset: u64) {
        let len = self.bytes().len() as u64;
        let end = self.start + len;
        let near = offset <= end.saturating_add(len);
        self.next_len = if near { (self.next_len * 2).min(WINDOW_LEN_MAX) } else { WINDOW_LEN_MIN };
    }
}
