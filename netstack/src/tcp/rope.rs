//! Received bytes in a row of chunks.
use crate::buffers::{BufferBudget, Chunk};
use alloc::collections::VecDeque;

/// Bytes in order. Most ropes have one chunk or none, for which nothing else is allocated.
#[derive(Debug, Default)]
pub(crate) struct Rope {
    front: Option<Chunk>,
    /// Behind the front; empty without one.
    rest: VecDeque<Chunk>,
    len: usize,
}

impl Rope {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first bytes, some of them; empty if the rope is.
    pub(crate) fn front_mut(&mut self) -> &mut [u8] {
        self.front.as_mut().map(Chunk::data_mut).unwrap_or_default()
    }

    /// Adds `bytes`; as many as there was memory for, which is how many.
    pub(crate) fn push(&mut self, bytes: &[u8], budget: &mut BufferBudget) -> usize {
        let mut pushed = self.rest.back_mut().or(self.front.as_mut()).map_or(0, |c| c.push(bytes));
        while pushed < bytes.len() {
            // Larger chunks for longer ropes, so that there are never many.
            let wanted = (bytes.len() - pushed).max(self.len / 2);
            let Some(mut chunk) = budget.chunk(wanted) else { break };
            pushed += chunk.push(&bytes[pushed..]);
            self.append_chunk(chunk);
        }
        self.len += pushed;
        pushed
    }

    fn append_chunk(&mut self, chunk: Chunk) {
        if self.front.is_none() {
            self.front = Some(chunk);
        } else {
            self.rest.push_back(chunk);
        }
    }

    /// Adds another rope. What fits into the room behind the last chunk is copied there: many short
    /// ropes are not to hold a chunk each.
    pub(crate) fn append(&mut self, other: Self, budget: &mut BufferBudget) {
        self.len += other.len;
        for chunk in other.front.into_iter().chain(other.rest) {
            let last = self.rest.back_mut().or(self.front.as_mut());
            if let Some(last) = last
                && last.room().len() >= chunk.len()
            {
                last.push(chunk.data());
                budget.release(chunk);
            } else {
                self.append_chunk(chunk);
            }
        }
    }

    /// Takes `len` bytes off the front, or all there are.
    pub(crate) fn consume(&mut self, len: usize, budget: &mut BufferBudget) {
        let mut left = len.min(self.len);
        self.len -= left;
        while let Some(front) = &mut self.front {
            let part = left.min(front.len());
            front.consume(part);
            left -= part;
            if front.len() > 0 {
                break;
            }
            let next = self.rest.pop_front();
            if let Some(chunk) = core::mem::replace(&mut self.front, next) {
                budget.release(chunk);
            }
        }
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
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
        Push(usize),
        Append(usize),
        Consume(usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        let len = || prop_oneof![0usize..100, 0usize..100_000];
        prop_oneof![
            len().prop_map(Action::Push),
            len().prop_map(Action::Append),
            len().prop_map(Action::Consume),
        ]
    }

    proptest! {
        #[test]
        fn a_rope_is_a_queue_of_bytes(actions in prop::collection::vec(action(), 1..40)) {
            let (mut rope, mut budget) = (Rope::default(), BufferBudget::new(LIMITS));
            let (mut model, mut next) = (Vec::new(), 0usize);
            let mut fresh = |len: usize| -> Vec<u8> {
                next += 1;
                (0..len).map(|i| (i * 7 + next * 31).to_le_bytes()[0]).collect()
            };
            for action in actions {
                match action {
                    Action::Push(len) => {
                        let bytes = fresh(len);
                        prop_assert_eq!(rope.push(&bytes, &mut budget), len);
                        model.extend(bytes);
                    }
                    Action::Append(len) => {
                        let (bytes, mut other) = (fresh(len), Rope::default());
                        other.push(&bytes, &mut budget);
                        rope.append(other, &mut budget);
                        model.extend(bytes);
                    }
                    Action::Consume(len) => {
                        rope.consume(len, &mut budget);
                        model.drain(..len.min(model.len()));
                    }
                }
                prop_assert_eq!(rope.len(), model.len());
                let front = rope.front_mut();
                prop_assert_eq!(&front[..], &model[..front.len()]);
                prop_assert_eq!(front.is_empty(), model.is_empty());
            }
            while rope.len() > 0 {
                let front = rope.front_mut();
                prop_assert_eq!(&front[..], &model[..front.len()]);
                let len = front.len();
                model.drain(..len);
                rope.consume(len, &mut budget);
            }
            prop_assert!(model.is_empty());
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
