//! The end of a guest that cannot go on: the report that the VMM gives, on the serial line.
use super::Domain;
use crate::start::{end, say};
use paravane_host::backtrace::backtrace;
use paravane_host::ending::{Cause, Crash, Registers};
use paravane_host::report::{Report, Symbols};

impl Domain {
    /// Reports what happened and switches the machine off. What the guest wrote to the console is on the
    /// line already. The guest's RAM is room for its line tables.
    pub(super) fn crash(&self, cause: Cause, registers: Registers) -> ! {
        let load = |offset| {
            let mut bytes = [0; 8];
            self.ram.read(offset, &mut bytes).then(|| u64::from_le_bytes(bytes))
        };
        let frames = backtrace(&self.space, &registers, load);
        let status = cause.status();
        let crash = Crash { cause, registers };
        if self.devices.iter().all(|device| device.stop().is_ok()) {
            // SAFETY: neither the guest nor a device uses the RAM any more, and what is to be told of it
            // was read.
            unsafe { self.ram.become_heap() };
        }
        let report = Report {
            name: &self.name,
            space: &self.space,
            symbols: &Symbols::new(self.image),
            crash: &crash,
            frames: frames.as_slice(),
            console: &[],
            status,
        };
        say(format_args!("{report}"));
        end(status)
    }
}
