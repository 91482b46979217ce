//! What the hypercalls do. Every argument is the guest's and may be anything.
use super::Domain;
use paravane_abi::device::Attach;
use paravane_abi::hypercall::{ENTROPY_LEN_MAX, Error, Hypercall, TEXT_LEN_MAX};
use paravane_abi::layout::RAM_BASE;
use paravane_host::access::Access;
use paravane_host::ending::{Cause, Ending, Registers};
use paravane_host::width::to_usize;
use vm_memory::{Bytes, GuestAddress};

/// What becomes of a hypercall: an answer for the guest, or the end of the domain.
#[derive(Debug)]
pub enum Stop {
    /// The guest ended itself.
    Exit {
        /// Its status.
        status: u8,
    },
    /// The guest is to be ended; the backend adds the registers.
    Crash(Cause),
}

impl Stop {
    /// The end of the domain, with the registers of the guest at its hypercall.
    #[must_use]
    pub fn with_registers(self, registers: Registers) -> Ending {
        match self {
            Self::Exit { status } => Ending::Exit { status },
            Self::Crash(cause) => Ending::crash(cause, registers),
        }
    }
}

/// A call's answer, an error of the contract, or the end.
type Answer = Result<Result<u64, Error>, Stop>;

impl Domain {
    /// Carries out hypercall `call` of the guest; the result goes to its `rax`.
    ///
    /// # Errors
    /// The domain ends here.
    pub fn hypercall(&mut self, call: u64, arguments: [u64; 3]) -> Result<i64, Stop> {
        self.ties.black_box.beat();
        let answer = self.answer(call, arguments)?;
        Ok(answer.map_or_else(Error::to_result, u64::cast_signed))
    }

    fn answer(&mut self, call: u64, [a, b, _]: [u64; 3]) -> Answer {
        let Some(call) = Hypercall::from_raw(call) else { return Ok(Err(Error::InvalidCall)) };
        match call {
            Hypercall::ConsoleWrite => Ok(self.console_write(a, b)),
            // The call does not return, whatever the guest says.
            Hypercall::Exit => Err(Stop::Exit { status: u8::try_from(a).unwrap_or(u8::MAX) }),
            Hypercall::Panic => Err(self.panic(a, b)),
            Hypercall::Wait => Ok(Ok(self.wait(a)?)),
            Hypercall::Notify => self.notify(a, b),
            Hypercall::Attach => self.attach(a, b),
            Hypercall::Release => Ok(self.release(a, b)),
            Hypercall::Entropy => Ok(self.entropy(a, b)),
        }
    }

    fn console_write(&mut self, address: u64, len: u64) -> Result<u64, Error> {
        let mut buffer = [0; to_usize(TEXT_LEN_MAX)];
        let text = self.copy_in(address, len.min(TEXT_LEN_MAX), &mut buffer)?;
        self.console.write(text, &self.ties);
        Ok(text.len() as u64)
    }

    fn panic(&self, address: u64, len: u64) -> Stop {
        let mut buffer = [0; to_usize(TEXT_LEN_MAX)];
        let text = match self.copy_in(address, len.min(TEXT_LEN_MAX), &mut buffer) {
            Ok(text) => String::from_utf8_lossy(text).into_owned(),
            Err(_) => "(the guest gave an unreadable panic message)".to_owned(),
        };
        Stop::Crash(Cause::Panic { text })
    }

    fn notify(&mut self, device: u64, queue: u64) -> Answer {
        let slot = usize::try_from(device).ok().and_then(|i| self.devices.get_mut(i));
        let Some(slot) = slot else { return Ok(Err(Error::NoDevice)) };
        let queue = match u16::try_from(queue) {
            Ok(queue) if queue < slot.entry.queue_count => queue,
            _ => return Ok(Err(Error::NoDevice)),
        };
        if !slot.attached {
            return Ok(Err(Error::WrongState));
        }
        slot.device.notify(&self.ram, queue)?;
        Ok(Ok(0))
    }

    fn attach(&mut self, address: u64, len: u64) -> Answer {
        let mut buffer = [0; size_of::<Attach>()];
        if len != size_of::<Attach>() as u64 {
            return Ok(Err(Error::InvalidArgument));
        }
        let bytes = match self.copy_in(address, len, &mut buffer) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        let device = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let slot = usize::try_from(device).ok().and_then(|i| self.devices.get_mut(i));
        let Some(slot) = slot else { return Ok(Err(Error::NoDevice)) };
        if slot.attached {
            return Ok(Err(Error::WrongState));
        }
        let Ok(attach) = Attach::parse(bytes, &slot.entry, 0, self.ram.size()) else {
            return Ok(Err(Error::InvalidArgument));
        };
        slot.device.attach(&self.ram, &attach)?;
        slot.attached = true;
        Ok(Ok(0))
    }

    fn release(&self, offset: u64, len: u64) -> Result<u64, Error> {
        if !self.space.is_plain(offset, len) {
            return Err(Error::InvalidArgument);
        }
        if len == 0 {
            return Ok(0);
        }
        let len = usize::try_from(len).map_err(|_| Error::InvalidArgument)?;
        let advice = rustix::mm::Advice::LinuxDontNeed;
        // SAFETY: plain guest RAM: the host keeps no reference into it, and zeroes are a content as
        // good as any that the guest could write itself.
        let released = unsafe { rustix::mm::madvise((RAM_BASE + offset) as *mut _, len, advice) };
        released.map(|()| 0).map_err(|_| Error::InvalidArgument)
    }

    fn entropy(&self, address: u64, len: u64) -> Result<u64, Error> {
        if len > ENTROPY_LEN_MAX {
            return Err(Error::InvalidArgument);
        }
        let offset = self.space.check(address, len, Access::can_write).ok_or(Error::BadAddress)?;
        let mut buffer = [0; to_usize(ENTROPY_LEN_MAX)];
        let bytes = usize::try_from(len).ok().and_then(|len| buffer.get_mut(..len));
        let bytes = bytes.ok_or(Error::InvalidArgument)?;
        fill_random(bytes);
        let written = self.ram.memory().write_slice(bytes, GuestAddress(offset));
        written.map(|()| 0).map_err(|_| Error::BadAddress)
    }

    /// Copies `len` bytes of the guest's, at most the buffer's length, into the buffer.
    fn copy_in<'a>(&self, address: u64, len: u64, buffer: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let offset = self.space.check(address, len, Access::can_read).ok_or(Error::BadAddress)?;
        let bytes = usize::try_from(len).ok().and_then(|len| buffer.get_mut(..len));
        let bytes = bytes.ok_or(Error::InvalidArgument)?;
        let read = self.ram.memory().read_slice(bytes, GuestAddress(offset));
        read.map_err(|_| Error::BadAddress)?;
        Ok(bytes)
    }
}

impl From<crate::devices::GuestFault> for Stop {
    fn from(fault: crate::devices::GuestFault) -> Self {
        Self::Crash(Cause::Contract { text: fault.to_string() })
    }
}

/// Fills `bytes` from the host's random number generator.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // The generator is seeded once user space runs; only a signal can interrupt.
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
}
