//! What the guest sees of the processor: what KVM supports, less what the guest must not use.
//!
//! The guest's XCR0 covers x87, SSE and AVX only, and it has no use for what needs privilege. A
//! feature that CPUID shows is one that a library in the guest will use, so features whose state
//! XCR0 does not cover must not show (software KVM lets XGETBV say otherwise), nor those that would
//! be gone after a migration to a plain process.
use kvm_bindings::kvm_cpuid_entry2;

/// XCR0 bits of x87, SSE and AVX state.
const XCR0_MASK: u64 = 0b111;

/// Bytes of an XSAVE area with x87, SSE and AVX state (Intel SDM volume 1, 13.4).
const XSAVE_AREA_SIZE: u32 = 512 + 64 + 256;

/// Leaves that are shown, filtered by [`hidden`]; others read as zero. Absent on purpose: power and
/// performance monitoring, topology, SGX, processor trace, AMX, AVX10, SVM, SEV, and the
/// hypervisor's own.
fn is_shown(leaf: u32, subleaf: u32) -> bool {
    match leaf {
        0x0 | 0x1 | 0x2 | 0x4 | 0x7 | 0x15 | 0x16 => true,
        0xd => subleaf <= 2,
        0x8000_0000..=0x8000_0008 | 0x8000_001d => true,
        _ => false,
    }
}

/// Feature bits to clear in `[eax, ebx, ecx, edx]`.
fn hidden(leaf: u32, subleaf: u32) -> [u32; 4] {
    let bits = |list: &[u32]| list.iter().fold(0, |mask, bit| mask | 1 << bit);
    match (leaf, subleaf) {
        // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, PDCM, PCID, x2APIC, TSC deadline;
        // APIC, DS, ACPI, TM, PBE.
        (0x1, _) => {
            [0, 0, bits(&[2, 3, 4, 5, 6, 7, 8, 15, 17, 21, 24]), bits(&[9, 21, 22, 29, 31])]
        }
        // SGX, HLE, RTM, MPX, AVX-512 (F DQ IFMA PF ER CD BW VL), processor trace;
        // AVX-512 (VBMI VBMI2 VNNI BITALG VPOPCNTDQ), PKU, OSPKE, WAITPKG, CET, key locker, ENQCMD,
        // SGX_LC, PKS;
        // AVX-512 (4VNNIW 4FMAPS VP2INTERSECT FP16), UINTR, TSX force abort, CET, AMX.
        (0x7, 0) => [
            0,
            bits(&[2, 4, 11, 14, 16, 17, 21, 25, 26, 27, 28, 30, 31]),
            bits(&[1, 3, 4, 5, 6, 7, 11, 12, 14, 23, 29, 30, 31]),
            bits(&[2, 3, 5, 8, 11, 13, 20, 22, 23, 24, 25]),
        ],
        // AVX-512 BF16, FRED, AMX FP16; AMX complex, AVX10, APX.
        (0x7, 1) => [bits(&[5, 17, 21]), 0, 0, bits(&[8, 19, 21])],
        (0x7, _) => [u32::MAX; 4],
        // XSAVES and the supervisor state it saves, XFD.
        (0xd, 1) => [bits(&[3, 4]), u32::MAX, u32::MAX, u32::MAX],
        // SVM, performance counters, MWAITX; SYSCALL, which is switched off.
        (0x8000_0001, _) => [0, 0, bits(&[2, 23, 24, 28, 29]), bits(&[11])],
        _ => [0; 4],
    }
}

/// The entries for the guest, made from those that KVM supports.
pub(super) fn filter(supported: &[kvm_cpuid_entry2]) -> Vec<kvm_cpuid_entry2> {
    supported.iter().filter(|e| is_shown(e.function, e.index)).copied().map(sanitise).collect()
}

fn sanitise(mut entry: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = hidden(entry.function, entry.index);
    entry.eax &= !eax;
    entry.ebx &= !ebx;
    entry.ecx &= !ecx;
    entry.edx &= !edx;
    match (entry.function, entry.index) {
        // The CLFLUSH size and the brand stay; APIC ID 0, one logical processor.
        (0x1, _) => entry.ebx = entry.ebx & 0xffff | 1 << 16,
        (0x7, 0) => entry.eax = entry.eax.min(1),
        (0xd, 0) => {
            entry.eax &= u32::try_from(XCR0_MASK).unwrap_or(0);
            entry.ebx = entry.ebx.min(XSAVE_AREA_SIZE);
            entry.ecx = entry.ecx.min(XSAVE_AREA_SIZE);
            entry.edx = 0;
        }
        _ => {}
    }
    entry
}

fn leaf(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    let found = entries.iter().find(|e| e.function == function && e.index == index);
    found.copied().unwrap_or_default()
}

/// XCR0 for the guest, or `None` if the processor has no XSAVE.
pub(super) fn xcr0(entries: &[kvm_cpuid_entry2]) -> Option<u64> {
    let has_xsave = leaf(entries, 0x1, 0).ecx >> 26 & 1 == 1;
    has_xsave.then(|| u64::from(leaf(entries, 0xd, 0).eax) & XCR0_MASK)
}

/// Whether the processor is AMD's or Hygon's: the vendor name, in the order EBX, EDX, ECX.
pub(super) fn is_amd(entries: &[kvm_cpuid_entry2]) -> bool {
    let leaf = leaf(entries, 0x0, 0);
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
    matches!(name.as_flattened(), b"AuthenticAMD" | b"HygonGenuine")
}

/// Whether `rdfsbase` and `wrfsbase` can be had, which the contract promises to guests.
pub(super) fn has_fsgsbase(entries: &[kvm_cpuid_entry2]) -> bool {
    leaf(entries, 0x7, 0).ebx & 1 == 1
}

/// Whether `sgdt`, `sidt`, `sldt`, `smsw` and `str` can be made to fault at CPL 3.
pub(super) fn has_umip(entries: &[kvm_cpuid_entry2]) -> bool {
    leaf(entries, 0x7, 0).ecx >> 2 & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        let ones = u32::MAX;
        kvm_cpuid_entry2 {
            function,
            index,
            eax: ones,
            ebx: ones,
            ecx: ones,
            edx: ones,
            ..Default::default()
        }
    }

    /// A processor that has everything, and KVM's own leaves.
    fn everything() -> Vec<kvm_cpuid_entry2> {
        let leaves = (0..0x25).chain(0x4000_0000..0x4000_0002).chain(0x8000_0000..0x8000_0023);
        leaves.flat_map(|function| (0..20).map(move |index| entry(function, index))).collect()
    }

    #[test]
    fn nothing_shows_that_needs_more_state_than_xcr0_covers() {
        let shown = filter(&everything());
        let features = leaf(&shown, 7, 0);
        let (avx2, avx512f, avx512vl, pku) = (5, 16, 31, 3);
        assert_eq!(features.ebx >> avx2 & 1, 1);
        assert_eq!(features.ebx >> avx512f & 1, 0);
        assert_eq!(features.ebx >> avx512vl & 1, 0);
        assert_eq!(features.ecx >> pku & 1, 0);
        assert_eq!(leaf(&shown, 0xd, 0).eax, 7);
        assert_eq!(leaf(&shown, 0xd, 0).ecx, 832);
        assert_eq!(xcr0(&shown), Some(7));
        assert!(shown.iter().all(|e| e.function != 0xd || e.index <= 2));
    }

    #[test]
    fn virtualization_and_the_hypervisor_are_hidden_and_the_invariant_tsc_is_not() {
        let shown = filter(&everything());
        assert_eq!(leaf(&shown, 1, 0).ecx >> 5 & 1, 0, "VMX");
        assert_eq!(leaf(&shown, 0x8000_0001, 0).ecx >> 2 & 1, 0, "SVM");
        assert_eq!(leaf(&shown, 0x8000_0001, 0).edx >> 11 & 1, 0, "SYSCALL");
        assert_eq!(leaf(&shown, 0x8000_0007, 0).edx >> 8 & 1, 1, "invariant TSC");
        assert!(!shown.iter().any(|e| (0x4000_0000..0x5000_0000).contains(&e.function)));
    }

    #[test]
    fn an_old_processor_gets_what_it_has() {
        let old = [kvm_cpuid_entry2 { function: 1, ..Default::default() }];
        assert_eq!(xcr0(&filter(&old)), None);
        assert!(!has_fsgsbase(&filter(&old)));
        assert!(!has_umip(&filter(&old)));
        assert!(!is_amd(&filter(&old)));
    }

    #[test]
    fn vendors_are_told_apart() {
        let vendor = |name: &[u8; 12]| {
            let word = |at| u32::from_le_bytes(name[at..at + 4].try_into().unwrap());
            kvm_cpuid_entry2 { ebx: word(0), edx: word(4), ecx: word(8), ..Default::default() }
        };
        assert!(is_amd(&filter(&[vendor(b"AuthenticAMD")])));
        assert!(!is_amd(&filter(&[vendor(b"GenuineIntel")])));
    }

    #[test]
    fn the_guest_is_alone_on_its_processor() {
        assert_eq!(leaf(&filter(&everything()), 1, 0).ebx, 0x0001_ffff);
    }
}
