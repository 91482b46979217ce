//! How the guest leaves to the host: writes to a few I/O ports, which no device sits on.
use paravane_abi::hypercall::{SLOT_SIZE, SLOTS_RESERVED};
use paravane_abi::layout::PAGE_SIZE;
use paravane_host::width::to_usize;
use std::ops::Range;

/// Port of hypercall 0; hypercall `n` has the `n`th port from here.
const HYPERCALL_PORT: u8 = 0xc0;

/// Port of the fault stubs.
pub(super) const FAULT_PORT: u8 = 0xd0;

const _: () = assert!(HYPERCALL_PORT as u64 + SLOTS_RESERVED == FAULT_PORT as u64);

/// The ports that the guest may write to.
pub(super) const HYPERCALL_PORTS: Range<u8> = HYPERCALL_PORT..FAULT_PORT;

/// The hypercall of a port.
pub(super) fn hypercall_of(port: u16) -> Option<u64> {
    let number = u64::from(port.checked_sub(u16::from(HYPERCALL_PORT))?);
    (number < SLOTS_RESERVED).then_some(number)
}

/// The hypercall page: `out %al, $port; ret` in each slot, `int3` elsewhere.
pub(super) fn hypercall_page() -> Vec<u8> {
    const OUT_IMM8_AL: u8 = 0xe6;
    const RET: u8 = 0xc3;
    const INT3: u8 = 0xcc;
    let mut page = vec![INT3; to_usize(PAGE_SIZE)];
    let slots = page.chunks_mut(to_usize(SLOT_SIZE));
    for (slot, port) in slots.zip(HYPERCALL_PORT..).take(to_usize(SLOTS_RESERVED)) {
        slot[..3].copy_from_slice(&[OUT_IMM8_AL, port, RET]);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Decoder, DecoderOptions};

    #[test]
    fn each_slot_leaves_by_the_port_of_its_call() {
        let page = hypercall_page();
        assert_eq!(page.len() as u64, PAGE_SIZE);
        for number in 0..SLOTS_RESERVED {
            let at = usize::try_from(number * SLOT_SIZE).unwrap();
            let mut decoder = Decoder::new(64, &page[at..], DecoderOptions::NONE);
            let out = decoder.decode();
            assert_eq!(out.code(), Code::Out_imm8_AL);
            assert_eq!(hypercall_of(u16::try_from(out.immediate(0)).unwrap()), Some(number));
            assert_eq!(decoder.decode().code(), Code::Retnq);
        }
    }

    #[test]
    fn other_ports_are_no_hypercalls() {
        for port in [0, 0xbf, 0xd0, 0x1c0, 0xffff] {
            assert_eq!(hypercall_of(port), None, "port {port:#x}");
        }
    }
}
