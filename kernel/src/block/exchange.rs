//! One request, from its submission to its outcome.
use alloc::rc::Rc;
use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use paravane_pv_drivers::block::{Block, BlockError, Request, Ticket};
use paravane_pv_drivers::{Dma, DmaBuffer, Transport};

/// A request on its way. Dropping it abandons the request, which the device then finishes for nobody.
pub(super) struct Exchange<D: Dma, T: Transport> {
    driver: Rc<RefCell<Block<D, T>>>,
    /// The request, until it is submitted.
    request: Option<Request<D>>,
    /// The claim to its outcome, from then on.
    ticket: Option<Ticket>,
}

// The buffers stay where they are when the exchange moves.
impl<D: Dma, T: Transport> Unpin for Exchange<D, T> {}

impl<D: Dma, T: Transport> Exchange<D, T> {
    pub(super) fn new(driver: Rc<RefCell<Block<D, T>>>, request: Request<D>) -> Self {
        Self { driver, request: Some(request), ticket: None }
    }

    /// Submits the request if there is room, without waiting. The next poll tells of errors.
    pub(super) fn start(&mut self, context: &mut Context<'_>) {
        let _ = self.poll_submit(context);
    }

    fn poll_submit(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BlockError>> {
        if self.request.is_some() {
            let submitted = self.driver.borrow_mut().poll_submit(&mut self.request, context);
            self.ticket = Some(ready!(submitted)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<D: Dma, T: Transport> Future for Exchange<D, T> {
    type Output = Result<Option<DmaBuffer<D>>, BlockError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.poll_submit(context))?;
        let Self { driver, ticket, .. } = &mut *self;
        driver.borrow_mut().poll_outcome(ticket, context)
    }
}

impl<D: Dma, T: Transport> Drop for Exchange<D, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.driver.borrow_mut().abandon(ticket);
        }
    }
}
