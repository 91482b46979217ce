//! A response body made of pieces of a large file, read ahead while it is sent.
use super::{ChunkRead, Contents};
use crate::platform::BlockSource;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes that come one chunk after the other.
pub(crate) trait ChunkSource {
    /// The next chunk, never empty; none at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;

    /// Moves the next chunk on without taking it.
    fn prepare(&mut self, cx: &mut Context<'_>);
}

/// A piece of a streamed body.
#[derive(Debug)]
pub(crate) enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes on the disk.
    Disk {
        /// Byte offset on the disk.
        offset: u64,
        /// Bytes, at least one.
        len: u64,
    },
}

/// Most chunks that are read ahead. A stream begins with one and earns the others chunk by chunk, so
/// that a client that takes nothing holds little.
const AHEAD_MAX: usize = 3;

/// A chunk behind the one that was given out last.
enum Ahead {
    Reading(ChunkRead),
    Ready(io::Result<Bytes>),
}

impl Ahead {
    /// Ready when the chunk is there. Starts a read that has not been started.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Reading(read) = self {
            *self = Self::Ready(ready!(read.future.as_mut().poll(cx)));
        }
        Poll::Ready(())
    }
}

/// A sequence of segments.
pub(crate) struct Stream<B: BlockSource> {
    contents: Rc<Contents<B>>,
    /// What is not being read yet.
    segments: VecDeque<Segment>,
    ahead: VecDeque<Ahead>,
    ahead_max: usize,
}

impl<B: BlockSource> Stream<B> {
    pub(crate) fn new(contents: Rc<Contents<B>>, segments: VecDeque<Segment>) -> Self {
        Self { contents, segments, ahead: VecDeque::with_capacity(AHEAD_MAX), ahead_max: 1 }
    }

    /// Waits until the first chunk is there, or the disk has failed.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn prime(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ahead(cx)).await;
        match self.ahead.pop_front() {
            Some(Ahead::Ready(Err(error))) => Err(error),
            Some(ahead) => {
                self.ahead.push_front(ahead);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Starts reads as far ahead as is allowed, and waits for the first of them.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.may_start()
            && let Some(mut ahead) = self.start()
        {
            // It is the front chunk that is waited for.
            let _ = ahead.poll(cx);
            self.ahead.push_back(ahead);
        }
        self.ahead.front_mut().map_or(Poll::Ready(()), |front| front.poll(cx))
    }

    fn may_start(&self) -> bool {
        // Where large buffers are short, one small one has to do.
        let are_large =
            self.ahead.iter().all(|ahead| !matches!(ahead, Ahead::Reading(read) if !read.is_large));
        self.ahead.is_empty() || (self.ahead.len() < self.ahead_max && are_large)
    }

    /// Takes the next chunk off the segments.
    fn start(&mut self) -> Option<Ahead> {
        match self.segments.pop_front()? {
            Segment::Bytes(bytes) => Some(Ahead::Ready(Ok(bytes))),
            Segment::Disk { offset, len } => match self.contents.read_chunk(offset, len) {
                Ok(read) => {
                    let (offset, len) = (offset + read.len, len - read.len);
                    if len > 0 {
                        self.segments.push_front(Segment::Disk { offset, len });
                    }
                    Some(Ahead::Reading(read))
                }
                Err(error) => Some(Ahead::Ready(Err(error))),
            },
        }
    }
}

impl<B: BlockSource> ChunkSource for Stream<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        ready!(self.poll_ahead(cx));
        let Some(Ahead::Ready(chunk)) = self.ahead.pop_front() else {
            return Poll::Ready(None);
        };
        if chunk.is_err() {
            self.segments.clear();
            self.ahead.clear();
        }
        // The disk works on the next chunks while this one is sent.
        self.ahead_max = (self.ahead_max + 1).min(AHEAD_MAX);
        self.prepare(cx);
        Poll::Ready(Some(chunk))
    }

    fn prepare(&mut self, cx: &mut Context<'_>) {
        // Whether the chunk is there already does not matter: the next call asks again.
        let _ = self.poll_ahead(cx);
    }
}

impl<B: BlockSource> std::fmt::Debug for Stream<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("segments", &self.segments).finish_non_exhaustive()
    }
}
