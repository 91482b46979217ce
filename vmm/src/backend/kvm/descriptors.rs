//! The tables that tell the processor what to do when the guest faults: GDT, TSS, IDT, and the stubs
//! at CPL 0 that the IDT points to (Intel SDM volume 3, chapters 3, 6 and 8).
//!
//! Without an IDT a fault ends in a shutdown, and SVM then loses the registers. So every exception
//! enters a stub, on a stack that only CPL 0 can touch, which leaves the guest by port I/O with the
//! frame of the exception on that stack.
use paravane_host::width::to_usize;
use std::ops::Range;

/// Selector of the code segment of the stubs.
pub(super) const KERNEL_CODE: u16 = 2 << 3;

/// Selector of the guest's data segment, at CPL 3.
pub(super) const USER_DATA: u16 = 5 << 3 | 3;

/// Selector of the guest's code segment, at CPL 3.
pub(super) const USER_CODE: u16 = 6 << 3 | 3;

/// Selector of the task state segment. The processor is given its contents directly, so that the GDT
/// has no entry for it.
pub(super) const TASK: u16 = 8 << 3;

/// Number of exception vectors that the architecture defines or reserves, and of stubs.
const VECTORS: u8 = 32;

/// Bytes of a stub.
const STUB_SIZE: u64 = 16;

/// Bytes of a TSS in 64-bit mode, without the I/O bitmap.
const TSS_SIZE: u16 = 104;

/// Bytes of the I/O bitmap: a bit for each of the 65,536 ports, and the byte of ones that has to
/// follow.
const IO_BITMAP_SIZE: u16 = 8192 + 1;

/// The limit of the TSS segment.
pub(super) const TSS_LIMIT: u16 = TSS_SIZE + IO_BITMAP_SIZE - 1;

/// The limit of the GDT.
pub(super) const GDT_LIMIT: u16 = 7 * 8 - 1;

/// The limit of the IDT.
pub(super) const IDT_LIMIT: u16 = VECTORS as u16 * 16 - 1;

/// The global descriptor table: flat segments with the accessed bit set, so that the processor never
/// writes to it, and no 32-bit code segment, so that the guest cannot leave 64-bit mode.
pub(super) fn gdt() -> Vec<u8> {
    let mut table = [0_u64; 7];
    table[usize::from(KERNEL_CODE >> 3)] = 0x00af_9b00_0000_ffff;
    table[usize::from(USER_DATA >> 3)] = 0x00cf_f300_0000_ffff;
    table[usize::from(USER_CODE >> 3)] = 0x00af_fb00_0000_ffff;
    table.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// The task state segment: the stack for exceptions, and an I/O bitmap that lets CPL 3 use `ports` and
/// no others.
pub(super) fn tss(fault_stack_top: u64, ports: Range<u8>) -> Vec<u8> {
    const RSP0: usize = 4;
    const IO_BITMAP_BASE: usize = 102;
    let mut tss = vec![0; usize::from(TSS_SIZE)];
    tss[RSP0..RSP0 + 8].copy_from_slice(&fault_stack_top.to_le_bytes());
    tss[IO_BITMAP_BASE..IO_BITMAP_BASE + 2].copy_from_slice(&TSS_SIZE.to_le_bytes());
    tss.extend([0xff; IO_BITMAP_SIZE as usize]);
    for port in ports.map(usize::from) {
        tss[usize::from(TSS_SIZE) + port / 8] &= !(1 << (port % 8));
    }
    tss
}

/// The interrupt descriptor table: an interrupt gate to its stub for each vector.
///
/// The guest may raise only #BP with an instruction: any other `int` is #GP, so that it cannot
/// forge the frame of another exception.
pub(super) fn idt(stubs: u64) -> Vec<u8> {
    (0..VECTORS).flat_map(|vector| gate(stubs + u64::from(vector) * STUB_SIZE, vector)).collect()
}

fn gate(handler: u64, vector: u8) -> [u8; 16] {
    const BREAKPOINT: u8 = 3;
    const INTERRUPT_GATE: u8 = 0x8e;
    const FROM_CPL_3: u8 = 3 << 5;
    let [h0, h1, h2, h3, h4, h5, h6, h7] = handler.to_le_bytes();
    let [s0, s1] = KERNEL_CODE.to_le_bytes();
    let kind = if vector == BREAKPOINT { INTERRUPT_GATE | FROM_CPL_3 } else { INTERRUPT_GATE };
    [h0, h1, s0, s1, 0, kind, h2, h3, h4, h5, h6, h7, 0, 0, 0, 0]
}

/// The code of the stubs: `push $vector; out %al, $port; hlt`.
pub(super) fn stubs(port: u8) -> Vec<u8> {
    let stub = |vector| {
        let mut stub = [0x90; to_usize(STUB_SIZE)];
        stub[..5].copy_from_slice(&[0x6a, vector, 0xe6, port, 0xf4]);
        stub
    };
    (0..VECTORS).flat_map(stub).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Decoder, DecoderOptions};

    fn descriptor(selector: u16) -> u64 {
        let at = usize::from(selector & !7);
        u64::from_le_bytes(gdt()[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn segments_are_present_and_accessed_and_have_their_privilege() {
        for (selector, privilege, long) in
            [(KERNEL_CODE, 0, 1), (USER_DATA, 3, 0), (USER_CODE, 3, 1)]
        {
            let entry = descriptor(selector);
            assert_eq!(entry >> 47 & 1, 1, "present");
            assert_eq!(entry >> 45 & 3, privilege, "DPL");
            assert_eq!(entry >> 40 & 1, 1, "accessed");
            assert_eq!(entry >> 53 & 1, long, "64-bit code");
        }
    }

    #[test]
    fn no_code_segment_is_32_bit() {
        assert_eq!(gdt().len(), usize::from(GDT_LIMIT) + 1);
        for selector in (0..gdt().len()).step_by(8) {
            let entry = descriptor(u16::try_from(selector).unwrap());
            let is_code = entry >> 43 & 3 == 3;
            assert!(!is_code || entry >> 53 & 1 == 1, "selector {selector:#x}");
        }
    }

    #[test]
    fn the_tss_names_its_stack_and_allows_the_ports_given() {
        let tss = tss(0xffff_8000_0000_4000, 0xc3..0xd0);
        assert_eq!(tss.len(), usize::from(TSS_LIMIT) + 1);
        assert_eq!(tss[4..12], 0xffff_8000_0000_4000_u64.to_le_bytes());
        let bitmap = usize::from(u16::from_le_bytes([tss[102], tss[103]]));
        for port in 0..0x1_0000 {
            let is_allowed = tss[bitmap + port / 8] >> (port % 8) & 1 == 0;
            assert_eq!(is_allowed, (0xc3..0xd0).contains(&port), "port {port:#x}");
        }
        assert_eq!(tss[bitmap + 8192..], [0xff], "the byte behind the bitmap");
    }

    #[test]
    fn each_gate_leads_to_the_stub_of_its_vector() {
        let base = 0xffff_8000_0000_2000_u64;
        let (idt, stubs) = (idt(base), stubs(0xd0));
        assert_eq!(idt.len(), usize::from(IDT_LIMIT) + 1);
        for (vector, gate) in idt.chunks(16).enumerate() {
            let handler =
                [gate[0], gate[1], gate[6], gate[7], gate[8], gate[9], gate[10], gate[11]];
            let at = usize::try_from(u64::from_le_bytes(handler) - base).unwrap();
            let mut decoder = Decoder::new(64, &stubs[at..at + 16], DecoderOptions::NONE);
            let push = decoder.decode();
            assert_eq!((push.code(), push.immediate(0)), (Code::Pushq_imm8, vector as u64));
            let out = decoder.decode();
            assert_eq!((out.code(), out.immediate(0)), (Code::Out_imm8_AL, 0xd0));
            assert_eq!(decoder.decode().code(), Code::Hlt);
            assert_eq!(gate[5] >> 5 & 3, if vector == 3 { 3 } else { 0 }, "DPL of {vector}");
            assert_eq!(u16::from_le_bytes([gate[2], gate[3]]), KERNEL_CODE);
        }
    }
}
