//! Crash reports: what happened to a guest, for the people who run and write it. The same text on
//! every backend.
mod cause;
mod symbols;
#[cfg(test)]
mod tests;
mod text;

use crate::ending::{Cause, Crash, Registers};
use crate::space::AddressSpace;
use crate::status::Status;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use symbols::Symbols;
pub use text::Printable;

/// Most lines of console output in a report.
const CONSOLE_LINES: usize = 20;

/// A crash report; shown by its `Display`.
#[expect(missing_debug_implementations, reason = "to be displayed")]
pub struct Report<'a> {
    /// Name of the guest.
    pub name: &'a str,
    /// Its address space.
    pub space: &'a AddressSpace,
    /// What its image says of addresses.
    pub symbols: &'a Symbols<'a>,
    /// What happened.
    pub crash: &'a Crash,
    /// Addresses of the call stack, innermost first.
    pub frames: &'a [u64],
    /// The last of the console's output.
    pub console: &'a [u8],
    /// The exit status that follows.
    pub status: Status,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, space, crash, .. } = self;
        let what = cause::Description { cause: &crash.cause, space };
        writeln!(f, "the guest {name} was ended: {what}")?;
        write_registers(f, &crash.registers)?;
        self.write_backtrace(f)?;
        self.write_console(f)?;
        write!(f, "  exit status {}", self.status)
    }
}

impl Report<'_> {
    fn write_backtrace(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  backtrace:")?;
        let mut number = 0;
        for repeated in self.frames.chunk_by(|a, b| a == b) {
            let address = repeated[0];
            // A return address belongs to the call before it, which may be on another line.
            let is_exact = number == 0 && self.crash.cause.is_at_instruction();
            let probe = if is_exact { address } else { address.saturating_sub(1) };
            write!(f, "  {number:>4}: {address:#018x}")?;
            self.symbols.write(f, probe)?;
            if repeated.len() > 1 {
                writeln!(f, "        ... {} times", repeated.len())?;
            }
            number += repeated.len();
        }
        Ok(())
    }

    fn write_console(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.console);
        let lines: Vec<_> = text.lines().collect();
        if lines.is_empty() {
            return Ok(());
        }
        writeln!(f, "  last console output:")?;
        let skipped = lines.len().saturating_sub(CONSOLE_LINES);
        for line in lines.iter().skip(skipped) {
            writeln!(f, "    | {}", Printable(line))?;
        }
        Ok(())
    }
}

impl Cause {
    /// Whether the guest's `rip` is the instruction at fault, rather than a return address.
    fn is_at_instruction(&self) -> bool {
        matches!(self, Self::Fault { .. } | Self::Hang)
    }
}

fn write_registers(f: &mut fmt::Formatter<'_>, registers: &Registers) -> fmt::Result {
    let r = registers;
    let rows = [
        [("rip", r.rip), ("rsp", r.rsp), ("rbp", r.rbp)],
        [("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx)],
        [("rdx", r.rdx), ("rsi", r.rsi), ("rdi", r.rdi)],
        [("r8", r.r8), ("r9", r.r9), ("r10", r.r10)],
        [("r11", r.r11), ("r12", r.r12), ("r13", r.r13)],
        [("r14", r.r14), ("r15", r.r15), ("rflags", r.rflags)],
    ];
    writeln!(f, "  registers:")?;
    for row in rows {
        write!(f, "   ")?;
        for (name, value) in row {
            write!(f, " {name:>6} {value:016x}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
