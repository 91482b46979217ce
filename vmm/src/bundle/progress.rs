//! A sign of life while much is written.
use crate::notice::notice;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time from one line to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// A writer that tells the operator every now and then how much went through it.
#[derive(Debug)]
pub(super) struct Progress<'a, W> {
    output: W,
    what: &'a Path,
    bytes: u64,
    told: Instant,
}

impl<'a, W> Progress<'a, W> {
    pub(super) fn new(output: W, what: &'a Path) -> Self {
        Self { output, what, bytes: 0, told: Instant::now() }
    }
}

impl<W: Write> Write for Progress<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let len = self.output.write(buffer)?;
        self.bytes += len as u64;
        if self.told.elapsed() >= INTERVAL {
            notice(format_args!("{}: {} MiB packed", self.what.display(), self.bytes >> 20));
            self.told = Instant::now();
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
