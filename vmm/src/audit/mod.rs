//! `paravane check`: looks for instructions that a guest has no business executing.
//!
//! The sweep decodes executable sections from one function symbol to the next, so that padding or
//! data between functions cannot shift it. It is an audit aid, not a wall: see [`LIMITS`].
mod privileged;
mod sweep;

use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind, elf};
use serde::Serialize;
use std::fmt;

pub use privileged::{ShimReport, sweep_shim};
pub use sweep::Kind;

/// What a sweep can and cannot prove; part of every report.
pub const LIMITS: &str = "A sweep sees the instructions that lie at function starts and in sequence \
from there. It proves that the compiler emitted none of those listed; it cannot prove that the same \
bytes, entered in the middle of an instruction, or data written at run time, contain none. What stops \
those is the processor (privilege level 3, pages never writable and executable) and, on the process \
backend, the system call filter.";

/// An instruction that does not belong into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Virtual address.
    pub address: u64,
    /// Why it is listed.
    pub kind: Kind,
    /// The instruction, in Intel syntax.
    pub instruction: String,
    /// The function it lies in, if the image has symbols.
    pub function: Option<String>,
}

/// The result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Executable sections looked at.
    pub sections: Vec<String>,
    /// Bytes in these sections.
    pub bytes: u64,
    /// Instructions decoded.
    pub instructions: u64,
    /// Bytes that are no valid instruction where the sweep came by.
    pub undecodable: u64,
    /// What was found, by address.
    pub findings: Vec<Finding>,
}

/// Why an image cannot be swept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an object file.
    #[error("the file is not readable as ELF: {0}")]
    Object(#[from] object::Error),
    /// Without sections there is nothing that says where code is.
    #[error("the image has no executable sections: its section headers were stripped")]
    NoSections,
}

/// Sweeps the executable sections of the ELF file `bytes`.
///
/// # Errors
/// The file cannot be read as ELF, or names no executable section.
pub fn sweep(bytes: &[u8]) -> Result<Report, Error> {
    let file = object::File::parse(bytes)?;
    let functions = function_starts(&file);
    let mut report = Report::default();
    for section in file.sections().filter(is_executable) {
        report.sections.push(section.name().unwrap_or("?").to_owned());
        sweep::section(section.address(), section.data()?, &functions, &mut report);
    }
    if report.sections.is_empty() {
        return Err(Error::NoSections);
    }
    for finding in &mut report.findings {
        finding.function = functions.name_at(finding.address);
    }
    Ok(report)
}

fn is_executable<'data>(section: &impl ObjectSection<'data>) -> bool {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return false };
    sh_flags.0 & elf::SHF_EXECINSTR.0 != 0
}

/// Function symbols by address.
#[derive(Debug, Default)]
struct Functions(Vec<(u64, String)>);

impl Functions {
    /// Function starts strictly between `start` and `end`.
    fn starts_within(&self, start: u64, end: u64) -> impl Iterator<Item = u64> {
        let first = self.0.partition_point(|(address, _)| *address <= start);
        self.0[first..].iter().map(|(address, _)| *address).take_while(move |a| *a < end)
    }

    fn name_at(&self, address: u64) -> Option<String> {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        let (_, name) = self.0.get(after.checked_sub(1)?)?;
        Some(addr2line::demangle_auto(name.as_str().into(), None).into_owned())
    }
}

/// Whether the symbol is that of a function, or of assembly that does not say what it is.
fn is_function<'data>(symbol: &impl ObjectSymbol<'data>) -> bool {
    let can_be = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
    can_be && symbol.is_definition() && symbol.section_index().is_some()
}

fn function_starts(file: &object::File<'_>) -> Functions {
    let mut functions: Vec<_> = file
        .symbols()
        .filter(is_function)
        .map(|s| (s.address(), s.name().unwrap_or("?").to_owned()))
        .collect();
    functions.sort();
    functions.dedup_by_key(|(address, _)| *address);
    Functions(functions)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "swept {} ({} bytes, {} instructions, {} bytes not decodable)",
            self.sections.join(", "),
            self.bytes,
            self.instructions,
            self.undecodable
        )?;
        for finding in &self.findings {
            let function = finding.function.as_deref().unwrap_or("?");
            let Finding { address, kind, instruction, .. } = finding;
            writeln!(f, "{address:#x}: {instruction} ({kind}) in {function}")?;
        }
        match self.findings.len() {
            0 => writeln!(f, "no privileged or system call instruction found"),
            n => writeln!(f, "{n} instructions that do not belong into a guest"),
        }?;
        write!(f, "{LIMITS}")
    }
}

#[cfg(test)]
mod tests;
