//! What the hypercalls do. Every argument is the guest's and may be anything.
use super::Domain;
use crate::machine::{cpu, serial};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use paravane_abi::device::Attach;
use paravane_abi::hypercall::{ENTROPY_LEN_MAX, Error, Hypercall, TEXT_LEN_MAX};
use paravane_host::access::Access;
use paravane_host::ending::Cause;
use paravane_host::width::to_usize;

/// The guest does not go on.
#[derive(Debug)]
pub(super) enum End {
    /// It ended itself, with this status.
    Exit(u8),
    /// It is ended.
    Crash(Cause),
}

impl From<Cause> for End {
    fn from(cause: Cause) -> Self {
        Self::Crash(cause)
    }
}

type Answer = Result<Result<u64, Error>, End>;

impl Domain {
    /// Carries out hypercall `call`; the result goes to the guest's `rax`.
    pub(super) fn answer(&mut self, call: u64, [a, b, _]: [u64; 3]) -> Answer {
        let Some(call) = Hypercall::from_raw(call) else { return Ok(Err(Error::InvalidCall)) };
        match call {
            Hypercall::ConsoleWrite => Ok(self.console_write(a, b)),
            // The call does not return, whatever the guest says.
            Hypercall::Exit => Err(End::Exit(u8::try_from(a).unwrap_or(u8::MAX))),
            Hypercall::Panic => Err(self.panic(a, b).into()),
            Hypercall::Wait => Ok(Ok(self.wait(a)?)),
            Hypercall::Notify => Ok(self.notify(a, b)),
            Hypercall::Attach => self.attach(a, b),
            Hypercall::Release => Ok(self.release(a, b)),
            Hypercall::Entropy => self.entropy(a, b),
        }
    }

    fn console_write(&self, address: u64, len: u64) -> Result<u64, Error> {
        let mut buffer = [0; to_usize(TEXT_LEN_MAX)];
        let text = self.copy_in(address, len.min(TEXT_LEN_MAX), &mut buffer)?;
        serial::write(text);
        Ok(text.len() as u64)
    }

    fn panic(&self, address: u64, len: u64) -> Cause {
        let mut buffer = [0; to_usize(TEXT_LEN_MAX)];
        let text = match self.copy_in(address, len.min(TEXT_LEN_MAX), &mut buffer) {
            Ok(text) => String::from_utf8_lossy(text).into_owned(),
            Err(_) => "(the guest gave an unreadable panic message)".to_owned(),
        };
        Cause::Panic { text }
    }

    fn notify(&self, device: u64, queue: u64) -> Result<u64, Error> {
        let device = usize::try_from(device).ok().and_then(|index| self.devices.get(index));
        let device = device.ok_or(Error::NoDevice)?;
        let queue = u16::try_from(queue).map_err(|_| Error::NoDevice)?;
        if queue >= device.entry().queue_count {
            return Err(Error::NoDevice);
        }
        if !device.is_attached() {
            return Err(Error::WrongState);
        }
        device.notify(queue);
        Ok(0)
    }

    fn attach(&mut self, address: u64, len: u64) -> Answer {
        let mut buffer = [0; size_of::<Attach>()];
        if len != buffer.len() as u64 {
            return Ok(Err(Error::InvalidArgument));
        }
        let bytes = match self.copy_in(address, len, &mut buffer) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        let index = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let device = usize::try_from(index).ok().and_then(|index| self.devices.get_mut(index));
        let Some(device) = device else { return Ok(Err(Error::NoDevice)) };
        if device.is_attached() {
            return Ok(Err(Error::WrongState));
        }
        let base = self.ram.physical();
        let Ok(attach) = Attach::parse(bytes, device.entry(), base, self.ram.size()) else {
            return Ok(Err(Error::InvalidArgument));
        };
        device.attach(&attach).map_err(|error| Cause::Host { text: error.to_string() })?;
        Ok(Ok(0))
    }

    fn release(&self, offset: u64, len: u64) -> Result<u64, Error> {
        let is_plain = self.space.is_plain(offset, len);
        if is_plain && self.ram.zero(offset, len) { Ok(0) } else { Err(Error::InvalidArgument) }
    }

    fn entropy(&self, address: u64, len: u64) -> Answer {
        let mut buffer = [0; to_usize(ENTROPY_LEN_MAX)];
        let bytes = usize::try_from(len).ok().and_then(|len| buffer.get_mut(..len));
        let Some(bytes) = bytes else { return Ok(Err(Error::InvalidArgument)) };
        let Some(offset) = self.space.check(address, len, Access::can_write) else {
            return Ok(Err(Error::BadAddress));
        };
        cpu::fill_random(bytes).map_err(|error| Cause::Host { text: error.to_string() })?;
        Ok(if self.ram.write(offset, bytes) { Ok(0) } else { Err(Error::BadAddress) })
    }

    /// Copies `len` bytes of the guest's, at most the buffer's length, into the buffer.
    fn copy_in<'a>(&self, address: u64, len: u64, buffer: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let offset = self.space.check(address, len, Access::can_read).ok_or(Error::BadAddress)?;
        let bytes = usize::try_from(len).ok().and_then(|len| buffer.get_mut(..len));
        let bytes = bytes.ok_or(Error::InvalidArgument)?;
        if self.ram.read(offset, bytes) { Ok(bytes) } else { Err(Error::BadAddress) }
    }
}
