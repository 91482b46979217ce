//! The requests in flight, and who waits for them.
use super::BlockError;
use super::request::Outcome;
use crate::Dma;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

/// A request in flight or finished. There is one for each request, so nobody takes the outcome of
/// somebody else's. Give it back with [`Block::poll_outcome`](super::Block::poll_outcome) or
/// [`Block::abandon`](super::Block::abandon).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the outcome of a request stays in the driver until it is fetched or abandoned"]
pub struct Ticket(usize);

#[derive(Debug)]
enum Slot<D: Dma> {
    Free,
    Pending(Option<Waker>),
    Finished(Outcome<D>),
    Abandoned,
}

/// What a virtqueue carries beside the chain of a request: the slot that its outcome goes to.
#[derive(Debug)]
pub(super) struct SlotIndex(usize);

#[derive(Debug)]
pub(super) struct Slots<D: Dma> {
    slots: Vec<Slot<D>>,
    free: Vec<usize>,
}

impl<D: Dma> Slots<D> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// A slot for a new request.
    pub(super) fn reserve(&mut self) -> (Ticket, SlotIndex) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[index] = Slot::Pending(None);
        (Ticket(index), SlotIndex(index))
    }

    /// Puts the outcome of a request down. Returns who waits for it.
    pub(super) fn finish(
        &mut self,
        SlotIndex(index): SlotIndex,
        outcome: Outcome<D>,
    ) -> Option<Waker> {
        match core::mem::replace(&mut self.slots[index], Slot::Finished(outcome)) {
            Slot::Pending(waker) => waker,
            Slot::Abandoned | Slot::Free | Slot::Finished(_) => {
                self.release(index);
                None
            }
        }
    }

    /// Fails everything in flight. Returns who waits.
    pub(super) fn fail_all(&mut self, error: BlockError) -> Vec<Waker> {
        let is_in_flight =
            |slots: &Self, i: &usize| matches!(slots.slots[*i], Slot::Pending(_) | Slot::Abandoned);
        let in_flight: Vec<_> = (0..self.slots.len()).filter(|i| is_in_flight(self, i)).collect();
        in_flight.into_iter().filter_map(|i| self.finish(SlotIndex(i), Err(error))).collect()
    }

    /// The outcome of a request, and then no ticket any more; or a wake-up when it is there.
    pub(super) fn poll(
        &mut self,
        ticket: &mut Option<Ticket>,
        context: &mut Context<'_>,
    ) -> Poll<Outcome<D>> {
        let Some(Ticket(index)) = *ticket else { return Poll::Ready(Err(BlockError::NoRequest)) };
        if let Slot::Pending(waker) = &mut self.slots[index] {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        *ticket = None;
        match self.release(index) {
            Slot::Finished(outcome) => Poll::Ready(outcome),
            Slot::Free | Slot::Pending(_) | Slot::Abandoned => {
                Poll::Ready(Err(BlockError::NoRequest))
            }
        }
    }

    /// Forgets a request: its outcome is dropped when it comes.
    pub(super) fn abandon(&mut self, Ticket(index): Ticket) {
        if matches!(self.slots[index], Slot::Pending(_)) {
            self.slots[index] = Slot::Abandoned;
        } else {
            self.release(index);
        }
    }

    fn release(&mut self, index: usize) -> Slot<D> {
        self.free.push(index);
        core::mem::replace(&mut self.slots[index], Slot::Free)
    }
}
