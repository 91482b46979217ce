//! The shim's privileged instructions, held against the list of those that it may have.
//!
//! Optimisation moves code from function to function and forgets the names of functions that were
//! inlined, but the line tables keep the file that each instruction was written in. So that is what a
//! line of the list names; of assembly, which has no line tables, it names the symbol.
//!
//! The sweep reads 64-bit code. The shim's first instructions are 32-bit code, most of which means the same;
//! there it can miss an instruction, so whoever changes them should look at them.
use super::{Error, Finding, Report, sweep};
use paravane_host::report::Symbols;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The list, as it was when this program was built.
const LIST: &str = include_str!("../../../shim/privileged.txt");

/// Where the list is, for the operator.
const LIST_NAME: &str = "shim/privileged.txt";

/// The folder of the shim's sources, as line tables have it.
const SOURCES: &str = "/shim/src/";

/// The result of sweeping the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShimReport {
    /// What was found.
    pub sweep: Report,
    /// Findings that the list does not have, the first of each line that it would need.
    pub unlisted: Vec<Finding>,
    /// Lines of the list to which nothing was found.
    pub absent: Vec<String>,
}

/// Sweeps the shim in the ELF file `bytes`, and compares what it finds with the list.
///
/// # Errors
/// As [`sweep`].
pub fn sweep_shim(bytes: &[u8]) -> Result<ShimReport, Error> {
    let sweep = sweep(bytes)?;
    let lines = Symbols::new(bytes);
    Ok(compare(sweep, LIST, |finding| place(&lines, finding)))
}

impl ShimReport {
    /// Whether the shim has exactly what the list says.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unlisted.is_empty() && self.absent.is_empty()
    }
}

fn compare(sweep: Report, list: &str, place: impl Fn(&Finding) -> String) -> ShimReport {
    let entries = list.lines().map(entry).filter(|entry| !entry.is_empty());
    let mut known: BTreeMap<_, bool> = entries.map(|entry| (entry.to_owned(), false)).collect();
    let mut unlisted = Vec::new();
    for finding in &sweep.findings {
        let found = format!("{}: {}", place(finding), operation(&finding.instruction));
        known.entry(found).and_modify(|is_there| *is_there = true).or_insert_with_key(|entry| {
            unlisted.push(Finding { function: Some(entry.clone()), ..finding.clone() });
            true
        });
    }
    let absent = known.into_iter().filter(|(_, is_there)| !is_there).map(|(entry, _)| entry);
    ShimReport { unlisted, absent: absent.collect(), sweep }
}

/// A line of the list without its comment.
fn entry(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// The file among the shim's sources that made the compiler put the instruction there; without one,
/// the symbol.
fn place(lines: &Symbols<'_>, finding: &Finding) -> String {
    let in_shim = |file: &str| Some(format!("src/{}", file.rsplit_once(SOURCES)?.1));
    let file = lines.files(finding.address).into_iter().find_map(in_shim);
    file.or_else(|| finding.function.clone()).unwrap_or_else(|| "?".to_owned())
}

/// What the instruction does, without the registers that the compiler chose.
fn operation(instruction: &str) -> String {
    let (mnemonic, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
    let is_special = |operand: &&str| operand.starts_with("cr") || operand.starts_with("dr");
    match operands.split(',').find(is_special) {
        Some(register) => format!("{mnemonic} {register}"),
        None => mnemonic.to_owned(),
    }
}

impl fmt::Display for ShimReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sweep, unlisted, absent } = self;
        let (bytes, count) = (sweep.bytes, sweep.findings.len());
        writeln!(f, "swept the shim ({bytes} bytes, {count} privileged instructions)")?;
        for Finding { address, instruction, function, .. } in unlisted {
            let entry = function.as_deref().unwrap_or("?");
            writeln!(f, "{address:#x}: {instruction}: not in {LIST_NAME}: {entry}")?;
        }
        for entry in absent {
            writeln!(f, "in {LIST_NAME}, but not in the shim: {entry}")?;
        }
        match unlisted.len() + absent.len() {
            0 => write!(f, "exactly those that {LIST_NAME} lists"),
            n => write!(f, "{n} differences from {LIST_NAME}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(instructions: &[&str]) -> Report {
        let finding = |instruction: &&str| Finding {
            address: 0x20_0000,
            kind: super::super::Kind::Privileged,
            instruction: (*instruction).to_owned(),
            function: Some("f".to_owned()),
        };
        Report { findings: instructions.iter().map(finding).collect(), ..Report::default() }
    }

    fn check(instructions: &[&str], list: &str, expect: (&[&str], &[&str])) {
        let at_place = |finding: &Finding| finding.function.clone().unwrap();
        let report = compare(report(instructions), list, at_place);
        let unlisted: Vec<_> =
            report.unlisted.iter().map(|f| f.function.as_deref().unwrap()).collect();
        assert_eq!((unlisted.as_slice(), report.absent.as_slice()), (expect.0, &*owned(expect.1)));
        assert_eq!(report.is_clean(), expect.0.is_empty() && expect.1.is_empty());
    }

    fn owned(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&entry| entry.to_owned()).collect()
    }

    #[test]
    fn the_list_is_held_to_exactly() {
        let list = "# Why.\n\nf: hlt  # sleeps\n  f: mov cr3\n";
        check(&["hlt", "mov cr3,rax", "mov cr3,rdi", "hlt"], list, (&[], &[]));
        check(&["hlt"], list, (&[], &["f: mov cr3"]));
        check(&["hlt", "mov cr3,rax", "mov rax,cr0"], list, (&["f: mov cr0"], &[]));
        check(&["out dx,al", "out dx,eax"], "", (&["f: out"], &[]));
        check(&["hlt"], "g: hlt", (&["f: hlt"], &["g: hlt"]));
    }

    #[test]
    fn what_differs_is_named() {
        let at_place = |finding: &Finding| finding.function.clone().unwrap();
        let text = compare(report(&["out dx,al"]), "f: hlt", at_place).to_string();
        assert!(text.contains("0x200000: out dx,al: not in shim/privileged.txt: f: out"), "{text}");
        assert!(text.contains("but not in the shim: f: hlt"), "{text}");
    }
}
