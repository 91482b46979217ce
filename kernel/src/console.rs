//! The console: text to the host, collected and written in as few hypercalls as possible.
use crate::hypercall;
use crate::state::kernel;
use crate::to_usize;
use core::cell::RefCell;
use core::fmt;
use paravane_abi::hypercall::TEXT_LEN_MAX;

const CAPACITY: usize = to_usize(TEXT_LEN_MAX);

/// Text that was not written yet. A fixed buffer: a report about the heap must not need the heap.
struct Pending {
    bytes: [u8; CAPACITY],
    len: usize,
}

/// The console of the guest.
pub(crate) struct State(RefCell<Pending>);

impl State {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Pending { bytes: [0; CAPACITY], len: 0 }))
    }

    fn write(&self, text: &[u8]) {
        let mut pending = self.0.borrow_mut();
        let mut rest = text;
        while !rest.is_empty() {
            rest = pending.append(rest);
        }
    }

    /// Writes out all that is pending. Does nothing if the console itself panicked.
    pub(crate) fn flush(&self) {
        if let Ok(mut pending) = self.0.try_borrow_mut() {
            let len = pending.len;
            pending.write_out(len);
        }
    }
}

impl Pending {
    /// Takes as much of `text` as there is room for, writes out whole lines if that filled the
    /// buffer, and returns what is left.
    fn append<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let (now, later) = text.split_at(text.len().min(CAPACITY - self.len));
        self.bytes[self.len..][..now.len()].copy_from_slice(now);
        self.len += now.len();
        if self.len == CAPACITY {
            let last_line = self.bytes.iter().rposition(|&byte| byte == b'\n');
            self.write_out(last_line.map_or(CAPACITY, |end| end + 1));
        }
        later
    }

    /// Writes out the first `len` bytes.
    fn write_out(&mut self, len: usize) {
        if len > 0 {
            hypercall::console_write(&self.bytes[..len]);
            self.bytes.copy_within(len..self.len, 0);
            self.len -= len;
        }
    }
}

/// Writes text to the console. It is out when the executor's loop comes round, when the guest ends,
/// or after [`flush`]; a crash that is no panic loses what was pending.
pub fn write(text: &[u8]) {
    kernel().console.write(text);
}

/// Writes out what is pending.
pub fn flush() {
    kernel().console.flush();
}

/// The console for `write!`.
#[derive(Debug)]
pub(crate) struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
