//! Where things are in the guest's address space.
//!
//! ```text
//! 0x0fff_f000_0000  host pages, read-only to the guest: start info, hypercall page, time page,
//!                   configuration
//! 0x1000_0000_0000  RAM, linear: RAM offset o is at RAM_BASE + o
//!      + 0x20_0000  the image, at the addresses it was linked for
//!      + image_end  the stack slots, each with an unmapped guard page at its low end
//!      + stack end  free RAM up to ram_size; RAM offsets 0..0x20_0000 are free, too
//! ```
//!
//! Everything else is unmapped, address 0 included. Image pages have exactly the permissions of their
//! ELF segment (never writable and executable); all other RAM is readable and writable.

/// Size of a page, bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Virtual address of RAM offset 0.
pub const RAM_BASE: u64 = 0x1000_0000_0000;

/// Smallest RAM a domain can have, bytes.
pub const RAM_SIZE_MIN: u64 = 4 << 20;

/// Largest RAM a domain can have, bytes.
pub const RAM_SIZE_MAX: u64 = 64 << 30;

/// Granularity of the RAM size, bytes.
pub const RAM_SIZE_ALIGN: u64 = 2 << 20;

/// Lowest virtual address at which an image may have a segment.
pub const IMAGE_BASE: u64 = RAM_BASE + 0x20_0000;

/// Virtual address of the start info page (one page, read-only).
pub const START_INFO: u64 = 0x0fff_f000_0000;

/// Virtual address of the hypercall page (one page, read-only and executable).
pub const HYPERCALL_PAGE: u64 = START_INFO + PAGE_SIZE;

/// Virtual address of the time page (one page, read-only).
pub const TIME_PAGE: u64 = START_INFO + 2 * PAGE_SIZE;

/// Virtual address of the configuration blob (whole pages, read-only).
pub const CONFIG: u64 = START_INFO + 0x1_0000;

/// Most bytes of configuration a host hands to a guest.
pub const CONFIG_LEN_MAX: u64 = 1 << 20;

const _: () = assert!(CONFIG + CONFIG_LEN_MAX <= RAM_BASE);
const _: () = assert!(IMAGE_BASE.is_multiple_of(RAM_SIZE_ALIGN));

/// The RAM offset of the `len` bytes at virtual address `address`, if they lie in RAM altogether.
#[must_use]
pub const fn ram_offset(address: u64, len: u64, ram_size: u64) -> Option<u64> {
    if address < RAM_BASE {
        return None;
    }
    let offset = address - RAM_BASE;
    match offset.checked_add(len) {
        Some(end) if end <= ram_size => Some(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_offset_accepts_only_what_lies_in_ram() {
        let size = RAM_SIZE_MIN;
        assert_eq!(ram_offset(RAM_BASE, 0, size), Some(0));
        assert_eq!(ram_offset(RAM_BASE + 8, size - 8, size), Some(8));
        assert_eq!(ram_offset(RAM_BASE + 8, size - 7, size), None);
        assert_eq!(ram_offset(RAM_BASE - 1, 1, size), None);
        assert_eq!(ram_offset(RAM_BASE + 1, u64::MAX, size), None);
        assert_eq!(ram_offset(u64::MAX, 1, size), None);
    }
}
