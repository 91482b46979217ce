//! File contents: small files from a cache in memory, large ones streamed from the disk.
mod cache;
mod pool;
mod stream;

pub(crate) use cache::CacheCounters;
pub(crate) use stream::{ChunkSource, Segment, Stream};

use crate::platform::{BlockSource, SECTOR_LEN, SECTOR_SIZE};
use crate::site::{Coding, File, FileId, Site};
use bytes::Bytes;
use cache::Cache;
use hyper::header::HeaderValue;
use pool::Pool;
use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

/// Largest part of a file that is read at once, bytes. Of a response, several are in memory: some being
/// sent, until the client has acknowledged them, and some being read.
const CHUNK_LEN: usize = 128 << 10;

/// Header values that depend only on the file; cloning them copies no text.
#[derive(Debug)]
pub(crate) struct FileHeaders {
    /// Strong validator, see [`entity_tag`].
    pub(crate) etag: HeaderValue,
    pub(crate) last_modified: HeaderValue,
    pub(crate) media_type: HeaderValue,
}

impl FileHeaders {
    fn new(file: &File) -> Self {
        let modified = std::time::UNIX_EPOCH
            .checked_add(std::time::Duration::from_secs(file.modified.min(MODIFIED_MAX)))
            .unwrap_or(std::time::UNIX_EPOCH);
        Self {
            etag: ascii(entity_tag(file)),
            last_modified: ascii(httpdate::fmt_http_date(modified)),
            media_type: HeaderValue::from_static(file.media_type),
        }
    }
}

/// The last second that an HTTP date can express: 9999-12-31 23:59:59.
const MODIFIED_MAX: u64 = 253_402_300_799;

/// The entity tag of a file: its modification time, length and place on the disk, in hexadecimal.
///
/// It is strong. A running site never changes, and a site packed anew gives a changed file another
/// time, length or place. The place tells the forms of one file (plain, `.gz`, `.br`) apart even
/// where time and length agree.
fn entity_tag(file: &File) -> String {
    format!("\"{:x}-{:x}-{:x}\"", file.modified, file.len, file.offset / SECTOR_LEN)
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

/// A whole file in memory.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) headers: FileHeaders,
    pub(crate) bytes: Bytes,
    /// Made when first asked for: as a file of its own, and as the coded form of another.
    pub(crate) heads: [OnceCell<ReadyHead>; 2],
}

/// The head of the answer with a whole file, but for what the request and the time decide.
#[derive(Debug)]
pub(crate) struct ReadyHead {
    /// The form and the type that it is for.
    pub(crate) coding: Option<Coding>,
    pub(crate) media_type: &'static str,
    /// All up to the field `connection`.
    pub(crate) before: Box<[u8]>,
    /// The fields behind it, up to the date.
    pub(crate) length: Box<[u8]>,
}

/// How much memory contents may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentLimits {
    /// Bytes of cached files together.
    pub(crate) cache_len: usize,
    /// Largest file that is cached, bytes.
    pub(crate) cached_file_len: usize,
    /// Bytes of buffers for streaming together, beyond the few kilobytes that every stream may have.
    pub(crate) stream_len: usize,
}

/// The contents of a site's files.
pub(crate) struct Contents<B: BlockSource> {
    disk: B,
    cache: RefCell<Cache>,
    cached_file_len: usize,
    pool: Pool<B::Buffer>,
}

impl<B: BlockSource> Contents<B> {
    pub(crate) fn new(disk: B, site: &Site, limits: ContentLimits) -> Self {
        Self {
            disk,
            cache: RefCell::new(Cache::new(site.file_count(), limits.cache_len)),
            cached_file_len: limits.cached_file_len.min(limits.cache_len),
            pool: Pool::new(CHUNK_LEN, limits.stream_len / CHUNK_LEN),
        }
    }

    /// Whether [`Contents::resident`] is the way to read this file.
    pub(crate) fn is_cacheable(&self, file: &File) -> bool {
        file.len <= self.cached_file_len as u64
    }

    /// The header values of a file.
    pub(crate) fn headers(file: &File) -> FileHeaders {
        FileHeaders::new(file)
    }

    /// A small file, if it is in the cache.
    pub(crate) fn cached(&self, id: FileId) -> Option<Rc<Resident>> {
        self.cache.borrow_mut().get(id)
    }

    /// A small file, from the cache or else from the disk. `None` if the cache has no room for it.
    pub(crate) async fn resident(
        &self,
        id: FileId,
        file: &File,
    ) -> io::Result<Option<Rc<Resident>>> {
        if let Some(hit) = self.cached(id) {
            return Ok(Some(hit));
        }
        let len = usize::try_from(file.len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let read_len = len.next_multiple_of(SECTOR_SIZE);
        let Some(room) = self.cache.borrow_mut().reserve(read_len) else { return Ok(None) };
        let bytes = if len == 0 {
            Bytes::new()
        } else {
            let buffer = self.disk.buffer(read_len)?;
            room.fill(self.disk.read(file.offset, buffer, read_len).await?).slice(..len)
        };
        let resident =
            Rc::new(Resident { headers: FileHeaders::new(file), bytes, heads: Default::default() });
        self.cache.borrow_mut().insert(id, Rc::clone(&resident));
        Ok(Some(resident))
    }

    /// What the cache did so far.
    pub(crate) fn cache_counters(&self) -> CacheCounters {
        self.cache.borrow().counters()
    }

    /// Gives up memory that is not in use.
    pub(crate) fn shrink(&self) {
        self.pool.shrink();
    }

    /// Starts to read up to `len` bytes at `offset`, at least one: as much as there is a buffer for.
    pub(crate) fn read_chunk(&self, offset: u64, len: u64) -> io::Result<ChunkRead> {
        let skip = offset % SECTOR_LEN;
        let wanted = usize::try_from((skip + len).min(CHUNK_LEN as u64)).unwrap_or(CHUNK_LEN);
        let make = |len| self.disk.buffer(len);
        let taken = self.pool.take(wanted.next_multiple_of(SECTOR_SIZE), make)?;
        let (skip_len, end) = (usize::try_from(skip).unwrap_or(0), taken.len.min(wanted));
        let (is_large, claim) = (taken.claim.is_large(), taken.claim);
        let read = self.disk.read(offset - skip, taken.buffer, taken.len);
        let future = async move { Ok(claim.adopt(read.await?).slice(skip_len..end)) };
        Ok(ChunkRead { future: Box::pin(future), len: end as u64 - skip, is_large })
    }
}

impl<B: BlockSource> std::fmt::Debug for Contents<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// A read on its way.
pub(crate) struct ChunkRead {
    pub(crate) future: Pin<Box<dyn Future<Output = io::Result<Bytes>>>>,
    /// Bytes that are read.
    pub(crate) len: u64,
    /// Whether it goes into one of the large buffers.
    pub(crate) is_large: bool,
}
