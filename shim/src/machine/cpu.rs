//! The processor: what it must have, and its modes.
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdrand64_step};
use x86_64::registers::control::{Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// What the processor lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// The contract promises it to guests.
    #[error("this processor does not offer the guest FSGSBASE (QEMU: -cpu max or -cpu host)")]
    FsGsBase,
    /// Nothing else here gives randomness.
    #[error(
        "this processor does not offer RDRAND, the only source of randomness here (QEMU: -cpu max or -cpu host)"
    )]
    RdRand,
    /// Timer and interrupts depend on it.
    #[error("this processor has no local APIC")]
    Apic,
    /// The random number generator is broken.
    #[error("the processor's random number generator fails")]
    NoRandomness,
}

/// Feature bits of CPUID leaf 1 (ECX, EDX) and leaf 7 (EBX, ECX) (Intel SDM, CPUID).
const RDRAND: u32 = 1 << 30;
const XSAVE: u32 = 1 << 26;
const APIC: u32 = 1 << 9;
const FSGSBASE: u32 = 1 << 0;
const SMEP: u32 = 1 << 7;
const SMAP: u32 = 1 << 20;
const UMIP: u32 = 1 << 2;

/// Attempts for one random number; the generator fails ten times running only when it is broken (Intel's
/// guide to it, 5.2.1).
const ATTEMPTS: usize = 10;

/// Checks that the processor has what guests and the shim need.
///
/// # Errors
/// The first thing that it lacks.
pub fn check() -> Result<(), CpuError> {
    let (basic, extended) = (__cpuid(1), __cpuid_count(7, 0));
    let needs = [
        (extended.ebx & FSGSBASE, CpuError::FsGsBase),
        (basic.ecx & RDRAND, CpuError::RdRand),
        (basic.edx & APIC, CpuError::Apic),
    ];
    needs.into_iter().find(|&(bit, _)| bit == 0).map_or(Ok(()), |(_, error)| Err(error))
}

/// Sets the modes that the guest runs under: AVX and older vector state, `rdfsbase` and its kin, `syscall`,
/// and every protection of ring 0 against what belongs to ring 3 that the processor has.
///
/// # Safety
/// Memory of the guest's is reached through mappings of the shim's own only; the `syscall` registers are
/// set before the guest runs.
pub unsafe fn set_modes() {
    let (basic, extended) = (__cpuid(1), __cpuid_count(7, 0));
    let mut cr4 = Cr4::read() | Cr4Flags::FSGSBASE;
    let optional = [
        (basic.ecx & XSAVE, Cr4Flags::OSXSAVE),
        (extended.ebx & SMEP, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
        (extended.ebx & SMAP, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        (extended.ecx & UMIP, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
    ];
    for (bit, flag) in optional {
        cr4.set(flag, bit != 0);
    }
    // SAFETY: `check` found FSGSBASE, and CPUID the others.
    unsafe {
        Cr4::write(cr4);
        Efer::update(|efer| *efer |= EferFlags::SYSTEM_CALL_EXTENSIONS);
    }
    if cr4.contains(Cr4Flags::OSXSAVE) {
        let vectors = XCr0Flags::X87 | XCr0Flags::SSE | XCr0Flags::AVX;
        let supported = XCr0Flags::from_bits_truncate(u64::from(__cpuid_count(0xd, 0).eax));
        // SAFETY: no more than the processor supports, and x87 is always among it.
        unsafe { XCr0::write(vectors & supported) };
    }
}

/// Fills `bytes` with random numbers of the processor's.
///
/// # Errors
/// The generator fails.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), CpuError> {
    for chunk in bytes.chunks_mut(8) {
        let word = (0..ATTEMPTS).find_map(|_| random()).ok_or(CpuError::NoRandomness)?;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    Ok(())
}

fn random() -> Option<u64> {
    let mut word = 0;
    // SAFETY: `check` found RDRAND before anything is asked of the generator.
    (unsafe { _rdrand64_step(&mut word) } == 1).then_some(word)
}
