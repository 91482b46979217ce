//! The console: what the guest writes goes to standard output.
#![forbid(unsafe_code)]
use super::ties::Ties;
use rustix::io::Errno;
use rustix::stdio;

/// The console of a domain.
#[derive(Debug, Default)]
pub(super) struct Console {
    /// Nobody reads any more; output is dropped.
    closed: bool,
}

impl Console {
    /// Writes out `bytes`, and keeps the last of them for a crash report.
    pub(super) fn write(&mut self, bytes: &[u8], ties: &Ties) {
        ties.black_box.keep_console(bytes);
        // A reader that does not read must not look like a guest that hangs.
        ties.idle(|| self.write_all(bytes));
    }

    fn write_all(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() && !self.closed {
            match rustix::io::write(stdio::stdout(), rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
                Err(Errno::INTR) => {}
                Err(_) => self.closed = true,
            }
        }
    }
}
