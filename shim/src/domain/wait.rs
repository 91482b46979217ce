//! `WAIT`: until a device has something, a stop is requested, or the deadline passes.
use super::{Domain, Stop};
use crate::machine::{interrupts, serial};
use alloc::string::ToString;
use paravane_abi::hypercall::{DEADLINE_NEVER, EVENT_STOP};
use paravane_host::ending::Cause;

impl Domain {
    /// Carries out the call; the result is the event mask.
    pub(super) fn wait(&mut self, deadline_ns: u64) -> Result<u64, Cause> {
        loop {
            let events = self.take_events()?;
            let has_news = events != 0 || self.stop == Stop::Requested;
            if has_news || self.clock.now_ns() >= deadline_ns {
                return Ok(events | self.tell_stop());
            }
            if deadline_ns != DEADLINE_NEVER {
                self.clock.set_timer(&self.apic, deadline_ns);
            }
            interrupts::wait_for_interrupt();
        }
    }

    /// What came since it was last asked: a bit for each device.
    fn take_events(&mut self) -> Result<u64, Cause> {
        let pending = interrupts::take_pending();
        if pending & interrupts::TIMER_PENDING != 0 {
            self.clock.timer_came();
        }
        let asks = pending & interrupts::SERIAL_PENDING != 0 && serial::has_interrupt();
        if asks && self.stop == Stop::NotRequested {
            self.stop = Stop::Requested;
        }
        let mut events = 0;
        for (number, device) in self.devices.iter().enumerate() {
            let bit = 1 << number;
            if pending & bit != 0 && device.is_attached() {
                if device.acknowledge_interrupt() {
                    events |= u64::from(bit);
                }
                check(device)?;
            }
        }
        Ok(events)
    }

    fn tell_stop(&mut self) -> u64 {
        if self.stop == Stop::NotRequested {
            return 0;
        }
        self.stop = Stop::Told;
        EVENT_STOP
    }
}

/// A device that finds the guest's rings malformed stops working, and announces it with an interrupt (virtio 1.2,
/// 2.1.2).
fn check(device: &crate::virtio::Device) -> Result<(), Cause> {
    if !device.needs_reset() {
        return Ok(());
    }
    let place = device.place().to_string();
    let text = alloc::format!("{place} gave up: the guest's rings are malformed");
    Err(Cause::Contract { text })
}
