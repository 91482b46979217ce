//! What is on its way to the peer: pieces in the order of the stream, until they are acknowledged.
//! Long ones are references to what the application owns; short ones are copied together.
use super::header::HEAD_LEN_MAX;
use super::length;
use crate::buffers::{BufferBudget, Chunk};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// From this length on, bytes are kept and sent by reference.
const REFERENCE_LEN_MIN: usize = 2048;

/// Most references in one frame.
pub(crate) const REFERENCES_MAX: usize = 16;

#[derive(Debug)]
enum Data {
    Copied(Chunk),
    Referenced(Bytes),
}

impl Data {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(chunk) => chunk.data(),
            Self::Referenced(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct Piece {
    /// Where in the stream it begins, modulo 2^32.
    at: u32,
    data: Data,
}

/// How a part of the stream is best put into a frame: `copied` bytes first, then references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) copied: usize,
    pub(crate) referenced: usize,
}

impl Cut {
    pub(crate) fn len(self) -> usize {
        self.copied + self.referenced
    }
}

/// The send queue of a connection.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    pieces: VecDeque<Piece>,
    /// Behind all pieces: copied bytes that others may join, and where they begin in the stream.
    tail: Option<Chunk>,
    tail_at: u32,
    /// Where in the stream the first byte that is not acknowledged lies.
    start: u32,
    len: u32,
}

impl SendQueue {
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    fn end(&self) -> u32 {
        self.start.wrapping_add(self.len)
    }

    /// Lets `write` fill some of the space for up to `room` bytes; it returns how many it wrote, and
    /// anything else. `None` without memory.
    pub(crate) fn write<R>(
        &mut self,
        room: usize,
        budget: &mut BufferBudget,
        write: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Option<R> {
        if self.tail.as_mut().is_none_or(|tail| tail.room().is_empty()) {
            // More room at a time for who has filled some already.
            let chunk = budget.chunk(room.min(self.len()))?;
            self.seal();
            self.tail_at = self.end();
            self.tail = Some(chunk);
        }
        let tail = self.tail.as_mut()?;
        let space = tail.room();
        let space_len = space.len().min(room);
        let (written, result) = write(&mut space[..space_len]);
        let written = written.min(space_len);
        tail.extend(written);
        self.len += length(written);
        if self.len == 0 {
            self.clear(budget);
        }
        Some(result)
    }

    /// Adds bytes by reference if they are long, by copy otherwise; `None` without memory.
    pub(crate) fn push(&mut self, bytes: Bytes, budget: &mut BufferBudget) -> Option<()> {
        if bytes.len() >= REFERENCE_LEN_MIN {
            budget.charge(bytes.len());
            self.seal();
            let at = self.end();
            self.len += length(bytes.len());
            self.pieces.push_back(Piece { at, data: Data::Referenced(bytes) });
            return Some(());
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = self.write(rest.len(), budget, |room| {
                let len = room.len().min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                (len, len)
            })?;
            rest = &rest[len..];
        }
        Some(())
    }

    /// Lets nothing join the tail any more.
    fn seal(&mut self) {
        if let Some(chunk) = self.tail.take() {
            self.pieces.push_back(Piece { at: self.tail_at, data: Data::Copied(chunk) });
        }
    }

    /// Takes acknowledged bytes off the front.
    pub(crate) fn acknowledge(&mut self, len: u32, budget: &mut BufferBudget) {
        let len = len.min(self.len);
        self.len -= len;
        self.start = self.start.wrapping_add(len);
        if self.len == 0 {
            self.clear(budget);
            return;
        }
        while let Some(piece) = self.pieces.front() {
            let acknowledged = self.start.wrapping_sub(piece.at) as usize;
            if acknowledged < piece.data.as_slice().len() {
                break;
            }
            if let Some(piece) = self.pieces.pop_front() {
                release(piece.data, budget);
            }
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, budget: &mut BufferBudget) {
        self.start = self.end();
        self.len = 0;
        if let Some(tail) = self.tail.take() {
            budget.release(tail);
        }
        if self.pieces.capacity() > 0 {
            let pieces = core::mem::take(&mut self.pieces);
            pieces.into_iter().for_each(|piece| release(piece.data, budget));
        }
    }

    /// The data from `offset` on, piece by piece.
    fn parts_from(&self, offset: u32) -> impl Iterator<Item = Part<'_>> {
        let at = self.start.wrapping_add(offset);
        // All but the first piece begin behind the start of the queue, less than 2^31 bytes away.
        let place = |piece_at: u32| piece_at.wrapping_sub(self.start).cast_signed();
        let is_before = |piece: &Piece| place(piece.at) <= offset.cast_signed();
        let first = self.pieces.partition_point(is_before).saturating_sub(1);
        let skipped = move |piece_at: u32| at.wrapping_sub(piece_at).cast_signed().max(0) as usize;
        let sealed = self.pieces.range(first.min(self.pieces.len())..).map(move |piece| {
            let skipped = skipped(piece.at);
            match &piece.data {
                Data::Copied(chunk) => Part::Copied(chunk.data().get(skipped..).unwrap_or(&[])),
                Data::Referenced(bytes) => Part::Referenced(bytes, skipped.min(bytes.len())),
            }
        });
        let tail = self.tail.as_ref().map(move |chunk| {
            Part::Copied(chunk.data().get(skipped(self.tail_at)..).unwrap_or(&[]))
        });
        sealed.chain(tail).filter(|part| !part.as_slice().is_empty())
    }

    /// How to send the bytes from `offset` on: `len_max` of them, or fewer.
    pub(crate) fn cut(&self, offset: u32, len_max: usize) -> Cut {
        let available = self.len().saturating_sub(offset as usize);
        let mut cut = Cut { copied: available.min(len_max), referenced: 0 };
        if cut.copied <= HEAD_LEN_MAX {
            return cut;
        }
        cut.copied = 0;
        let mut references = 0;
        for part in self.parts_from(offset) {
            let len = part.as_slice().len().min(len_max - cut.len());
            match part {
                _ if len == 0 => break,
                Part::Copied(_) if references == 0 => cut.copied += len,
                Part::Referenced(..)
                    if cut.copied <= HEAD_LEN_MAX && references < REFERENCES_MAX =>
                {
                    cut.referenced += len;
                    references += 1;
                }
                _ => break,
            }
        }
        cut
    }

    /// Copies the bytes from `offset` on to all of `out`.
    pub(crate) fn copy(&self, offset: u32, out: &mut [u8]) {
        let mut rest = out;
        for part in self.parts_from(offset) {
            let data = part.as_slice();
            let len = data.len().min(rest.len());
            let (front, behind) = rest.split_at_mut(len);
            front.copy_from_slice(&data[..len]);
            rest = behind;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// References to the `len` bytes from `offset` on, as a [`Cut`] has them. How many.
    pub(crate) fn references(
        &self,
        offset: u32,
        len: usize,
        references: &mut [Bytes; REFERENCES_MAX],
    ) -> usize {
        let mut left = len;
        let mut count = 0;
        for (part, reference) in self.parts_from(offset).zip(references) {
            let Part::Referenced(bytes, skipped) = part else { break };
            let taken = left.min(bytes.len() - skipped);
            *reference = bytes.slice(skipped..skipped + taken);
            left -= taken;
            count += 1;
            if left == 0 {
                break;
            }
        }
        count
    }
}

/// Part of a piece.
enum Part<'a> {
    Copied(&'a [u8]),
    /// With how many bytes off the front do not belong to it.
    Referenced(&'a Bytes, usize),
}

impl Part<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(data) => data,
            Self::Referenced(bytes, skipped) => &bytes[*skipped..],
        }
    }
}

fn release(data: Data, budget: &mut BufferBudget) {
    match data {
        Data::Copied(chunk) => budget.release(chunk),
        Data::Referenced(bytes) => budget.discharge(bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::tests::LIMITS;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Action {
        Write { room: usize, len: usize },
        Push(usize),
        Acknowledge(usize),
        Read { offset: prop::sample::Index, len: usize },
    }

    fn action() -> impl Strategy<Value = Action> {
        let len = || prop_oneof![0usize..200, 0usize..20_000];
        prop_oneof![
            (1usize..70_000, len()).prop_map(|(room, len)| Action::Write { room, len }),
            prop_oneof![0usize..3000, 2000usize..20_000].prop_map(Action::Push),
            len().prop_map(Action::Acknowledge),
            (any::<prop::sample::Index>(), 1usize..65_000)
                .prop_map(|(offset, len)| Action::Read { offset, len }),
        ]
    }

    /// What a frame cut from the queue would hold.
    fn frame(queue: &SendQueue, offset: u32, len: usize) -> Vec<u8> {
        let cut = queue.cut(offset, len);
        let mut data = alloc::vec![0; cut.copied];
        queue.copy(offset, &mut data);
        if cut.referenced > 0 {
            assert!(cut.copied <= HEAD_LEN_MAX);
            let mut references = [const { Bytes::new() }; REFERENCES_MAX];
            let start = offset + length(cut.copied);
            let count = queue.references(start, cut.referenced, &mut references);
            references[..count].iter().for_each(|piece| data.extend_from_slice(piece));
        }
        assert_eq!(data.len(), cut.len());
        data
    }

    proptest! {
        #[test]
        fn the_queue_is_a_queue_of_bytes(actions in prop::collection::vec(action(), 1..50)) {
            let (mut queue, mut budget) = (SendQueue::default(), BufferBudget::new(LIMITS));
            queue.start = u32::MAX - 10_000;
            let (mut model, mut next) = (Vec::new(), 0usize);
            let mut fresh = |len: usize| -> Vec<u8> {
                next += 1;
                (0..len).map(|i| (i * 7 + next * 31).to_le_bytes()[0]).collect()
            };
            for action in actions {
                match action {
                    Action::Write { room, len } => {
                        let bytes = fresh(len);
                        let written = queue.write(room, &mut budget, |space| {
                            assert!(!space.is_empty() && space.len() <= room);
                            let len = bytes.len().min(space.len());
                            space[..len].copy_from_slice(&bytes[..len]);
                            (len, len)
                        });
                        model.extend_from_slice(&bytes[..written.unwrap()]);
                    }
                    Action::Push(len) => {
                        let bytes = fresh(len);
                        model.extend_from_slice(&bytes);
                        queue.push(Bytes::from(bytes), &mut budget).unwrap();
                    }
                    Action::Acknowledge(len) => {
                        let len = len.min(model.len());
                        queue.acknowledge(length(len), &mut budget);
                        model.drain(..len);
                    }
                    Action::Read { offset, len } if !model.is_empty() => {
                        let offset = offset.index(model.len());
                        let data = frame(&queue, length(offset), len);
                        prop_assert!(!data.is_empty() && data.len() <= len);
                        prop_assert_eq!(&data[..], &model[offset..offset + data.len()]);
                    }
                    Action::Read { .. } => {}
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(budget.used() == 0, model.is_empty());
            }
        }
    }

    #[test]
    fn a_long_body_goes_by_reference_behind_its_copied_head() {
        let (mut queue, mut budget) = (SendQueue::default(), BufferBudget::new(LIMITS));
        queue.push(Bytes::from_static(b"head"), &mut budget).unwrap();
        let body = Bytes::from(alloc::vec![7; 100_000]);
        queue.push(body.clone(), &mut budget).unwrap();
        let cut = queue.cut(0, 64_000);
        assert_eq!(cut, Cut { copied: 4, referenced: 63_996 });
        let mut references = [const { Bytes::new() }; REFERENCES_MAX];
        assert_eq!(queue.references(4, cut.referenced, &mut references), 1);
        assert_eq!(references[0].as_ptr(), body.as_ptr());
        assert_eq!(queue.cut(64_000, 64_000), Cut { copied: 0, referenced: 36_004 });
    }

    #[test]
    fn many_references_make_several_frames() {
        let (mut queue, mut budget) = (SendQueue::default(), BufferBudget::new(LIMITS));
        for _ in 0..20 {
            queue.push(Bytes::from(alloc::vec![7; 3000]), &mut budget).unwrap();
        }
        assert_eq!(queue.cut(0, 64_000).referenced, REFERENCES_MAX * 3000);
    }
}
