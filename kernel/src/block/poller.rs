//! A block device's part of the executor's loop.
use crate::executor::Poller;
use crate::time::Instant;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;
use paravane_pv_drivers::block::Block;
use paravane_pv_drivers::{Dma, Transport};

pub(super) struct BlockPoller<D: Dma, T: Transport> {
    driver: Rc<RefCell<Block<D, T>>>,
    /// Whom to wake: filled while the driver is borrowed, emptied when it is not.
    wakers: Vec<Waker>,
}

impl<D: Dma, T: Transport> BlockPoller<D, T> {
    pub(super) fn new(driver: Rc<RefCell<Block<D, T>>>) -> Self {
        Self { driver, wakers: Vec::new() }
    }
}

impl<D: Dma, T: Transport> Poller for BlockPoller<D, T> {
    fn poll(&mut self, _now: Instant) -> bool {
        self.driver.borrow_mut().poll(&mut self.wakers);
        self.wakers.drain(..).for_each(Waker::wake);
        false
    }

    fn before_wait(&mut self, _now: Instant) -> bool {
        let mut driver = self.driver.borrow_mut();
        driver.kick();
        driver.enable_events()
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        None
    }
}
