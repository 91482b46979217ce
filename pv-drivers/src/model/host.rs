//! The host of one device: answers `ATTACH` and counts notifications.
use super::{Arena, ArenaRing, DeviceQueue};
use crate::{Transport, TransportError};
use paravane_abi::device::{Attach, AttachError, Device, feature};
use paravane_abi::hypercall::Error;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec::Vec;
use zerocopy::IntoBytes;

#[derive(Debug)]
struct State {
    arena: Arena,
    device: Device,
    attached: RefCell<Option<Attach>>,
    notifications: RefCell<Vec<u16>>,
    refuses: Cell<bool>,
}

/// The host of one device, with index 0. Clones are the same host.
#[derive(Clone, Debug)]
pub struct Host(Rc<State>);

impl Host {
    /// A host that offers `device`, whose DMA memory is `arena`.
    #[must_use]
    pub fn new(arena: &Arena, device: Device) -> Self {
        Self(Rc::new(State {
            arena: arena.clone(),
            device,
            attached: RefCell::new(None),
            notifications: RefCell::new(Vec::new()),
            refuses: Cell::new(false),
        }))
    }

    /// Lets `ATTACH` fail.
    pub fn refuse(&self) {
        self.0.refuses.set(true);
    }

    /// What the driver attached with.
    #[must_use]
    pub fn attached(&self) -> Option<Attach> {
        *self.0.attached.borrow()
    }

    /// The device side of queue `index`.
    ///
    /// # Panics
    /// If the driver did not attach.
    #[must_use]
    pub fn queue(&self, index: usize) -> DeviceQueue<ArenaRing> {
        let attach = self.attached().expect("the device is attached");
        let setup = &attach.queues[index];
        let event_idx = attach.features & feature::RING_EVENT_IDX != 0;
        DeviceQueue::new(self.0.arena.ring(setup.descriptors), setup, event_idx)
    }

    /// The queues notified since the last call, in order.
    #[must_use]
    pub fn take_notifications(&self) -> Vec<u16> {
        self.0.notifications.take()
    }
}

impl Transport for Host {
    unsafe fn attach(&self, attach: &Attach) -> Result<(), TransportError> {
        // All of the address space counts as RAM: the arena checks each access later.
        let parsed = Attach::parse(attach.as_bytes(), &self.0.device, 0, u64::MAX);
        let refusal = parsed.err().or(self.0.refuses.get().then_some(AttachError::Features));
        if refusal.is_some() || attach.device != 0 {
            return Err(TransportError(Error::InvalidArgument.to_result()));
        }
        *self.0.attached.borrow_mut() = Some(*attach);
        Ok(())
    }

    fn notify(&self, device: u32, queue: u16) {
        assert_eq!(device, 0, "a notification for another device");
        self.0.notifications.borrow_mut().push(queue);
    }
}
