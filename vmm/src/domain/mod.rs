//! A domain: a guest's memory, devices and clock, and what its hypercalls do. The same on every
//! backend.
pub mod clock;
mod console;
mod host_pages;
pub(crate) mod hypercall;
pub(crate) mod map;
mod plan;
mod polling;
mod ties;
mod wait;

use crate::black_box::BlackBox;
use crate::devices::Device;
use crate::memory::GuestRam;
use paravane_abi::device::Device as TableEntry;
use paravane_host::backtrace::{Frames, backtrace};
use paravane_host::ending::Registers;
use paravane_host::space::AddressSpace;
use std::io;
use vm_memory::{Bytes, GuestAddress};

pub use host_pages::HostPages;
pub(crate) use hypercall::fill_random;
pub use plan::{BuildError, Plan, PlanError};
pub use ties::Ties;

/// A domain, built and ready to be entered.
#[derive(Debug)]
pub struct Domain {
    ram: GuestRam,
    space: AddressSpace,
    host_pages: HostPages,
    entry: u64,
    devices: Vec<Slot>,
    clock: clock::Clock,
    console: console::Console,
    ties: Ties,
    /// Whether the guest was told of the stop. It sleeps as usual from then on.
    stop_told: bool,
    polling: polling::Polling,
    /// Scratch space of `WAIT`.
    interests: Vec<libc::pollfd>,
}

/// A device and where it stands.
#[derive(Debug)]
struct Slot {
    device: Box<dyn Device>,
    entry: TableEntry,
    attached: bool,
}

impl Domain {
    /// The guest's RAM, mapped in this process.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Which page the guest may use how.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The pages that the host supplies.
    pub fn host_pages(&mut self) -> &mut HostPages {
        &mut self.host_pages
    }

    /// Virtual address at which the guest starts.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The call stack of the guest in state `registers`.
    #[must_use]
    pub fn backtrace(&self, registers: &Registers) -> Frames {
        let load = |offset| self.ram.memory().read_obj(GuestAddress(offset)).ok();
        backtrace(&self.space, registers, load)
    }

    /// The memory shared with the supervisor.
    #[must_use]
    pub fn black_box(&self) -> &'static BlackBox {
        self.ties.black_box
    }

    /// Lets every device start what it needs before privileges are dropped.
    ///
    /// # Errors
    /// The host refuses.
    pub fn start_devices(&mut self) -> io::Result<()> {
        self.devices.iter_mut().try_for_each(|slot| slot.device.start())
    }

    /// Starts the clock's publication; to be called right before the guest is entered.
    pub fn start_clock(&mut self) {
        self.clock.publish(self.host_pages.time_page());
        self.ties.black_box.set_started();
    }
}
