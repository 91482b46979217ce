//! The real registers: memory that a device answers.
use super::Registers;
use core::ptr::NonNull;

/// Registers mapped at a virtual address.
#[derive(Debug)]
pub struct Window {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: A window is an address range that `Window::new` was promised for good; which thread accesses
// it makes no difference.
unsafe impl Send for Window {}

impl Window {
    /// The registers in the `len` bytes from `base` on.
    ///
    /// # Safety
    /// The range is mapped for reading and writing as long as the window exists, uncached if the
    /// processor has a cache, and leads to a device: no Rust object lies there.
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>, len: u64) -> Self {
        Self { base, len }
    }

    /// The register of type `T` at `offset`, if it lies in the window and is aligned.
    fn register<T>(&self, offset: u64) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>() as u64)?;
        let offset = usize::try_from(offset).ok()?;
        let register = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        (end <= self.len && register.is_aligned()).then_some(register)
    }

    fn read<T>(&self, offset: u64) -> Option<T> {
        // SAFETY: The register is aligned and lies in a range that is mapped, by the contract of `new`;
        // the integers that this is called for have no invalid values.
        self.register::<T>(offset).map(|register| unsafe { register.read_volatile() })
    }

    fn write<T>(&self, offset: u64, value: T) {
        if let Some(register) = self.register::<T>(offset) {
            // SAFETY: As in `read`; and no Rust object lies there that the write could change.
            unsafe { register.write_volatile(value) }
        }
    }
}

impl Registers for Window {
    fn read_u8(&self, offset: u64) -> u8 {
        self.read(offset).unwrap_or(u8::MAX)
    }

    fn read_u16(&self, offset: u64) -> u16 {
        self.read(offset).unwrap_or(u16::MAX)
    }

    fn read_u32(&self, offset: u64) -> u32 {
        self.read(offset).unwrap_or(u32::MAX)
    }

    fn write_u8(&self, offset: u64, value: u8) {
        self.write(offset, value);
    }

    fn write_u16(&self, offset: u64, value: u16) {
        self.write(offset, value);
    }

    fn write_u32(&self, offset: u64, value: u32) {
        self.write(offset, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(8))]
    struct Memory([u8; 16]);

    fn window(memory: &mut Memory, len: u64) -> Window {
        let base = NonNull::new(memory.0.as_mut_ptr()).unwrap();
        // SAFETY: The tests keep the memory for longer than the window, and look at it only afterwards.
        unsafe { Window::new(base, len) }
    }

    #[test]
    fn registers_are_little_endian_at_their_offsets() {
        let mut memory = Memory([0; 16]);
        let window = window(&mut memory, 16);
        window.write_u8(1, 0x11);
        window.write_u16(2, 0x3322);
        window.write_u32(4, 0x7766_5544);
        window.write_u64(8, 0xffee_ddcc_bbaa_9988);
        assert_eq!(window.read_u8(1), 0x11);
        assert_eq!(window.read_u16(2), 0x3322);
        assert_eq!(window.read_u32(12), 0xffee_ddcc);
        let expect = [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];
        assert_eq!(memory.0[..8], expect);
        assert_eq!(memory.0[8..], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
    }

    #[test]
    fn nothing_outside_the_window_or_misaligned_is_accessed() {
        let mut memory = Memory([0; 16]);
        let window = window(&mut memory, 8);
        for offset in [5, 6, 8, u64::MAX - 1, u64::MAX] {
            window.write_u32(offset, 1);
            assert_eq!(window.read_u32(offset), u32::MAX, "at {offset:#x}");
        }
        assert_eq!(window.read_u16(3), u16::MAX);
        assert_eq!(window.read_u8(8), u8::MAX);
        assert_eq!(window.read_u8(7), 0);
        assert_eq!(memory.0, [0; 16]);
    }
}
