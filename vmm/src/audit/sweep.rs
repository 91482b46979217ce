//! Decoding one section, function by function.
use super::{Finding, Functions, Report};
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, Mnemonic};
use serde::Serialize;
use std::fmt;

/// Why an instruction is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Needs privilege level 0 or I/O privilege.
    Privileged,
    /// Enters a kernel by itself: system call or software interrupt.
    SystemCall,
    /// Calls a hypervisor by itself, past the hypercall page.
    HypervisorCall,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::SystemCall => "system call",
            Self::HypervisorCall => "hypervisor call",
        })
    }
}

impl Kind {
    /// Why `instruction` does not belong into a guest, if it does not.
    fn of(instruction: &Instruction) -> Option<Self> {
        match instruction.mnemonic() {
            Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Int => Some(Self::SystemCall),
            Mnemonic::Vmcall | Mnemonic::Vmmcall => Some(Self::HypervisorCall),
            _ if instruction.is_privileged() => Some(Self::Privileged),
            _ => None,
        }
    }
}

/// Adds what is found in the section `code`, which starts at `address`, to the report.
pub(super) fn section(address: u64, code: &[u8], functions: &Functions, report: &mut Report) {
    report.bytes += code.len() as u64;
    let end = address + code.len() as u64;
    let mut start = address;
    for next in functions.starts_within(address, end).chain([end]) {
        let offset = |a: u64| usize::try_from(a - address).unwrap_or(usize::MAX);
        function(start, &code[offset(start)..offset(next)], report);
        start = next;
    }
}

fn function(address: u64, code: &[u8], report: &mut Report) {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            report.undecodable += instruction.len() as u64;
            continue;
        }
        report.instructions += 1;
        if let Some(kind) = Kind::of(&instruction) {
            report.findings.push(Finding {
                address: instruction.ip(),
                kind,
                instruction: text(&instruction),
                function: None,
            });
        }
    }
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    IntelFormatter::new().format(instruction, &mut text);
    text
}
