//! One request, from its submission to its outcome.
use super::{Buffer, Driver};
use crate::device::HeapDma;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use paravane_pv_drivers::block::{BlockError, Request, Ticket};

/// A request on its way. Dropping it abandons the request, which the device then finishes for nobody.
pub(super) struct Exchange {
    driver: Rc<RefCell<Driver>>,
    /// The request, until it is submitted.
    request: Option<Request<HeapDma>>,
    /// The claim to its outcome, from then on.
    ticket: Option<Ticket>,
}

impl Exchange {
    pub(super) fn new(driver: Rc<RefCell<Driver>>, request: Request<HeapDma>) -> Self {
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

impl Future for Exchange {
    type Output = Result<Option<Buffer>, BlockError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.poll_submit(context))?;
        let Self { driver, ticket, .. } = &mut *self;
        driver.borrow_mut().poll_outcome(ticket, context)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.driver.borrow_mut().abandon(ticket);
        }
    }
}
