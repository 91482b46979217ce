//! How fast the time stamp counter runs, as far as the processor or the hypervisor says so.
use core::arch::x86_64::__cpuid;

const SECOND_NS: u64 = 1_000_000_000;

/// `ns / ticks` as a 32.32 fixed-point number, the time page's form of a slope.
#[must_use]
pub fn slope(ns: u64, ticks: u64) -> u64 {
    u64::try_from((u128::from(ns) << 32) / u128::from(ticks.max(1))).unwrap_or(u64::MAX)
}

/// The slope that the processor or the hypervisor announces: CPUID leaf `0x4000_0010` (TSC kHz, as VMware and
/// KVM define it) or leaf 0x15 (TSC/crystal ratio; Intel SDM, CPUID).
#[must_use]
pub fn announced_slope() -> Option<u64> {
    let hz = hypervisor_hz().or_else(crystal_hz)?;
    Some(slope(SECOND_NS, hz))
}

fn hypervisor_hz() -> Option<u64> {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 || __cpuid(0x4000_0000).eax < 0x4000_0010 {
        return None;
    }
    Some(u64::from(__cpuid(0x4000_0010).eax) * 1000).filter(|&hz| hz > 0)
}

fn crystal_hz() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid(0x15);
    let hz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax.max(1));
    Some(hz).filter(|&hz| hz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_2_ghz_tsc_is_a_half() {
        assert_eq!(slope(SECOND_NS, 2 * SECOND_NS), 1 << 31);
        assert_eq!(slope(u64::MAX, 0), u64::MAX);
    }
}
