//! Thread-local storage of the one thread (System V ABI, "variant II"): the variables lie directly
//! below the control block that the FS base points to.
/// Type of the program header of the template: `PT_TLS`.
const PT_TLS: u32 = 7;

/// The fields of an ELF64 header that lead to the program headers.
#[repr(C)]
struct ElfHeader {
    ident: [u8; 16],
    kind_and_machine: [u16; 2],
    version: u32,
    entry: u64,
    program_headers: usize,
    section_headers: u64,
    flags: u32,
    header_size: u16,
    program_header_size: u16,
    program_header_count: u16,
}

/// An ELF64 program header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: usize,
    physical_address: u64,
    size_in_file: usize,
    size: usize,
    align: usize,
}

/// The control block: what compilers expect at the FS base.
#[repr(C)]
struct ControlBlock {
    /// Its own address, which is how `&thread_local` is computed.
    own_address: usize,
    reserved: [usize; 4],
    /// The stack protector's canary, at `fs:0x28`.
    canary: u64,
}

const _: () = assert!(core::mem::offset_of!(ControlBlock, canary) == 0x28);

/// Distance from the start of the variables to the FS base: the template's size, rounded up to its
/// exact alignment. Code compiled for the offsets from the FS base relies on just this number.
fn distance(size: usize, align: usize) -> usize {
    size.next_multiple_of(align.max(1))
}

/// Where the control block lies in an area that ends at `area_end`: as high as the alignments of the
/// control block and of the template allow.
fn control_block_address(area_end: usize, align: usize) -> usize {
    let align = align.max(align_of::<ControlBlock>());
    (area_end - size_of::<ControlBlock>()) & !(align - 1)
}

#[cfg(not(test))]
mod image {
    use super::{ControlBlock, ElfHeader, PT_TLS, ProgramHeader};
    use super::{control_block_address, distance};
    use core::arch::asm;

    unsafe extern "C" {
        /// The ELF header, loaded with the first segment: a symbol of every linker.
        static __ehdr_start: ElfHeader;
        /// Behind the area that the linker script reserves for the block.
        static __tls_area_end: [u8; 0];
    }

    /// The template of the image, if it has thread-local variables.
    fn template() -> Option<&'static ProgramHeader> {
        // SAFETY: the linker put the ELF header there, and the program headers where it says.
        let headers = unsafe {
            let header = &raw const __ehdr_start;
            let first = header.byte_add((*header).program_headers).cast::<ProgramHeader>();
            core::slice::from_raw_parts(first, usize::from((*header).program_header_count))
        };
        headers.iter().find(|header| header.kind == PT_TLS)
    }

    /// Makes the thread-local variables usable.
    ///
    /// # Safety
    /// Called once, first of all.
    pub(crate) unsafe fn set_up() {
        let template = template();
        let align = template.map_or(1, |template| template.align);
        let area_end = (&raw const __tls_area_end).addr();
        let block = control_block_address(area_end, align);
        let block = core::ptr::with_exposed_provenance_mut::<ControlBlock>(block);
        // SAFETY: the linker script reserves room for the control block, the variables and all
        // alignments, zeroed as .bss is, so that only the initialised part has to be copied. Nothing
        // uses thread-local variables yet.
        unsafe {
            if let Some(template) = template {
                let variables = block.byte_sub(distance(template.size, align)).cast::<u8>();
                let initial = core::ptr::with_exposed_provenance::<u8>(template.address);
                variables.copy_from_nonoverlapping(initial, template.size_in_file);
            }
            (*block).own_address = block.addr();
            asm!("wrfsbase {}", in(reg) block, options(nostack, preserves_flags));
        }
    }

    /// Sets the canary of the stack protector.
    ///
    /// # Safety
    /// No function that checks the canary is active.
    pub(crate) unsafe fn set_canary(canary: u64) {
        // SAFETY: the control block has its canary there; by the caller it can change.
        unsafe { asm!("mov fs:[0x28], {}", in(reg) canary, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(test))]
pub(crate) use image::{set_canary, set_up};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_size_rounded_up_to_the_exact_alignment() {
        assert_eq!(distance(0, 0), 0);
        assert_eq!(distance(0x18, 8), 0x18);
        assert_eq!(distance(0x19, 8), 0x20);
        assert_eq!(distance(0x21, 64), 0x40);
    }

    #[test]
    fn the_control_block_is_aligned_and_fits() {
        for align in [0, 1, 8, 16, 64, 4096] {
            let block = control_block_address(0x1_0123, align);
            assert!(block.is_multiple_of(align.max(8)));
            assert!(block + size_of::<ControlBlock>() <= 0x1_0123);
        }
    }
}
