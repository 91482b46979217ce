//! Time: how fast the TSC and the local APIC's timer run, and what the time of day is.
//!
//! KVM says all of it through its clock (Linux, `Documentation/virt/kvm/x86/msr.rst`). Elsewhere the rates are
//! measured against the PIT, and the time of day comes from the CMOS clock.
use super::apic::Apic;
use core::arch::x86_64::{__cpuid, _rdtsc};
use core::sync::atomic::{Ordering, fence};
use paravane_host::tsc;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

const SECOND_NS: u64 = 1_000_000_000;

/// The PIT's input clock, Hz.
const PIT_HZ: u64 = 1_193_182;

/// The rates are measured over this many ticks of the PIT, about 20 ms, and at most as many as it counts.
const PIT_SPAN: u16 = 23_864;

/// A span that took longer than the PIT counts is measured again, so often.
const ATTEMPTS: usize = 50;

/// Readings for one point in time, of which the best is taken.
const READINGS: usize = 5;

/// The clocks' rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Nanoseconds per tick of the TSC, 32.32 fixed point.
    pub ns_per_tick: u64,
    /// Ticks of the local APIC's timer per nanosecond, 32.32 fixed point.
    pub timer_per_ns: u64,
}

/// The rates cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine has neither KVM's clock nor a timer (PIT) to measure the processor's against"
)]
pub struct NoTimer;

/// The processor's time stamp counter.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has one, and ring 0 may read it.
    unsafe { _rdtsc() }
}

/// Finds out the rates.
///
/// # Errors
/// There is nothing to measure them against.
pub fn rates(apic: &Apic) -> Result<Rates, NoTimer> {
    apic.start_counting();
    let begin = tsc();
    let announced = kvm_system_time().map(|time| time.slope()).or_else(tsc::announced_slope);
    let ns_per_tick = match announced {
        Some(slope) => {
            while scale(tsc() - begin, slope) < SECOND_NS / 500 {
                core::hint::spin_loop();
            }
            slope
        }
        None => measured_slope().ok_or(NoTimer)?,
    };
    let counted = apic.counted();
    let ns = scale(tsc() - begin, ns_per_tick).max(1);
    Ok(Rates { ns_per_tick, timer_per_ns: tsc::slope(u64::from(counted), ns) })
}

/// `value` times the 32.32 fixed-point `factor`.
#[must_use]
pub fn scale(value: u64, factor: u64) -> u64 {
    u64::try_from((u128::from(value) * u128::from(factor)) >> 32).unwrap_or(u64::MAX)
}

/// Unix time now, ns.
#[must_use]
pub fn wall_clock() -> u64 {
    kvm_wall_clock().unwrap_or_else(|| cmos_seconds() * SECOND_NS)
}

const KVM_SIGNATURE: u32 = 0x4000_0000;
const KVM_FEATURES: u32 = 0x4000_0001;
const KVM_CLOCK: u32 = 1 << 3;
const MSR_WALL_CLOCK: u32 = 0x4b56_4d00;
const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;

fn has_kvm_clock() -> bool {
    const HYPERVISOR: u32 = 1 << 31;
    let leaf = if __cpuid(1).ecx & HYPERVISOR == 0 { return false } else { __cpuid(KVM_SIGNATURE) };
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    name.as_flattened() == b"KVMKVMKVM\0\0\0" && __cpuid(KVM_FEATURES).eax & KVM_CLOCK != 0
}

/// `pvclock_vcpu_time_info`; KVM writes it when its address is announced.
#[repr(C, align(32))]
#[derive(Debug, Default)]
struct SystemTime {
    version: u32,
    padding: u32,
    tsc: u64,
    ns: u64,
    multiplier: u32,
    shift: i8,
    flags: u8,
    padding2: [u8; 2],
}

fn kvm_system_time() -> Option<SystemTime> {
    if !has_kvm_clock() {
        return None;
    }
    let mut time = SystemTime::default();
    let address = &raw mut time as u64;
    // SAFETY: the shim's memory is mapped one to one, so that this is its physical address; KVM writes to
    // it now and, with bit 0 cleared again, never later. Volatile, as the compiler does not see that.
    unsafe {
        Msr::new(MSR_SYSTEM_TIME).write(address | 1);
        fence(Ordering::SeqCst);
        let copy = (&raw const time).read_volatile();
        Msr::new(MSR_SYSTEM_TIME).write(0);
        Some(copy).filter(|time| time.multiplier != 0)
    }
}

impl SystemTime {
    /// Nanoseconds per tick of the TSC, 32.32 fixed point.
    fn slope(&self) -> u64 {
        let (multiplier, amount) = (u64::from(self.multiplier), self.shift.unsigned_abs().into());
        let shifted = if self.shift < 0 { u64::checked_shr } else { u64::checked_shl };
        shifted(multiplier, amount).unwrap_or(0)
    }
}

/// The time of day of the machine's start (`pvclock_wall_clock`) plus the time since then.
fn kvm_wall_clock() -> Option<u64> {
    let time = kvm_system_time()?;
    let mut start = [0_u32; 3];
    // SAFETY: as in `kvm_system_time`; KVM writes these twelve bytes during the instruction only.
    let [_, seconds, ns] = unsafe {
        Msr::new(MSR_WALL_CLOCK).write(&raw mut start as u64);
        fence(Ordering::SeqCst);
        (&raw const start).read_volatile()
    };
    let since = time.ns + scale(tsc().saturating_sub(time.tsc), time.slope());
    Some(u64::from(seconds) * SECOND_NS + u64::from(ns) + since)
}

const PIT_CHANNEL_0: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;

fn outb(port: u16, value: u8) {
    // SAFETY: the PIT and the CMOS index: they do not reach memory.
    unsafe { Port::new(port).write(value) };
}

fn inb(port: u16) -> u8 {
    // SAFETY: as for writing.
    unsafe { Port::new(port).read() }
}

/// Measures the TSC against channel 0 of the PIT, which counts down once from its largest value. Its
/// interrupt is masked.
fn measured_slope() -> Option<u64> {
    (0..ATTEMPTS).find_map(|_| measure())
}

fn measure() -> Option<u64> {
    // Channel 0, both bytes, mode 0: the output goes up when the count has run out.
    outb(PIT_COMMAND, 0b0011_0000);
    outb(PIT_CHANNEL_0, 0xff);
    outb(PIT_CHANNEL_0, 0xff);
    let start = reading();
    let end = loop {
        let now = reading();
        // When the count runs out before a span was seen, somebody else had the processor.
        let span = start.pit.checked_sub(now.pit).filter(|_| !now.has_run_out)?;
        if span >= PIT_SPAN {
            break now;
        }
    };
    let ns = u64::from(start.pit - end.pit) * SECOND_NS / PIT_HZ;
    let ticks = end.tsc.checked_sub(start.tsc).filter(|&ticks| ticks > 0)?;
    Some(tsc::slope(ns, ticks))
}

/// TSC and PIT at the same time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    tsc: u64,
    pit: u16,
    has_run_out: bool,
}

/// A reading, as simultaneous as a few attempts make it.
fn reading() -> Reading {
    let attempt = |_| {
        let before = tsc();
        // Latch status and count of channel 0.
        outb(PIT_COMMAND, 0b1100_0010);
        let width = tsc() - before;
        let [status, low, high] = [0; 3].map(|_: u8| inb(PIT_CHANNEL_0));
        let pit = u16::from_le_bytes([low, high]);
        (width, Reading { tsc: before + width / 2, pit, has_run_out: status & 0x80 != 0 })
    };
    let other = (1..READINGS).map(attempt);
    other.fold(attempt(0), |best, next| if next.0 < best.0 { next } else { best }).1
}

/// Unix time by the CMOS clock, which is taken to keep UTC; 0 where there is none.
fn cmos_seconds() -> u64 {
    let mut last = cmos_fields();
    for _ in 0..ATTEMPTS {
        // Two equal readings were not disturbed by an update.
        let fields = cmos_fields();
        if fields == last {
            break;
        }
        last = fields;
    }
    crate::calendar::unix_seconds(last)
}

/// Seconds, minutes, hours, day, month, year, and status B.
fn cmos_fields() -> [u8; 7] {
    [0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x0b].map(|index| {
        outb(0x70, index);
        inb(0x71)
    })
}
