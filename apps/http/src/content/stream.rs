//! A response body made of pieces of a large file, read ahead while it is sent.
use super::Contents;
use crate::platform::BlockSource;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
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

type Read = Pin<Box<dyn Future<Output = io::Result<Bytes>>>>;

/// The chunk after the one that was given out last.
enum Ahead {
    Nothing,
    Reading(Read),
    Ready(io::Result<Bytes>),
}

/// A sequence of segments.
pub(crate) struct Stream<B> {
    contents: Rc<Contents<B>>,
    segments: VecDeque<Segment>,
    ahead: Ahead,
}

impl<B: BlockSource> Stream<B> {
    pub(crate) fn new(contents: Rc<Contents<B>>, segments: VecDeque<Segment>) -> Self {
        Self { contents, segments, ahead: Ahead::Nothing }
    }

    /// Waits until the first chunk is there, or the disk has failed.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn prime(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ahead(cx)).await;
        match std::mem::replace(&mut self.ahead, Ahead::Nothing) {
            Ahead::Ready(Err(error)) => Err(error),
            ahead => {
                self.ahead = ahead;
                Ok(())
            }
        }
    }

    /// Starts the next read if none is under way, and waits for it.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Ahead::Nothing = self.ahead {
            self.ahead = self.start();
        }
        if let Ahead::Reading(read) = &mut self.ahead {
            let result = ready!(read.as_mut().poll(cx));
            self.advance(&result);
            self.ahead = Ahead::Ready(result);
        }
        Poll::Ready(())
    }

    fn start(&mut self) -> Ahead {
        match self.segments.front() {
            None => Ahead::Nothing,
            Some(&Segment::Disk { offset, len }) => {
                Ahead::Reading(Box::pin(Rc::clone(&self.contents).read_chunk(offset, len)))
            }
            Some(Segment::Bytes(_)) => match self.segments.pop_front() {
                Some(Segment::Bytes(bytes)) => Ahead::Ready(Ok(bytes)),
                _ => Ahead::Nothing,
            },
        }
    }

    /// Takes what was read off the front segment.
    fn advance(&mut self, result: &io::Result<Bytes>) {
        let Ok(bytes) = result else { return self.segments.clear() };
        if let Some(Segment::Disk { offset, len }) = self.segments.front_mut() {
            *offset += bytes.len() as u64;
            *len -= bytes.len() as u64;
            if *len == 0 {
                self.segments.pop_front();
            }
        }
    }
}

impl<B: BlockSource> ChunkSource for Stream<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        ready!(self.poll_ahead(cx));
        let Ahead::Ready(chunk) = std::mem::replace(&mut self.ahead, Ahead::Nothing) else {
            return Poll::Ready(None);
        };
        // The disk works on the next chunk while this one is sent.
        self.prepare(cx);
        Poll::Ready(Some(chunk))
    }

    fn prepare(&mut self, cx: &mut Context<'_>) {
        // Whether the chunk is there already does not matter: the next call asks again.
        let _ = self.poll_ahead(cx);
    }
}

impl<B> std::fmt::Debug for Stream<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("segments", &self.segments).finish_non_exhaustive()
    }
}
