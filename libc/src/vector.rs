//! Loads and stores of any alignment, one machine instruction each.
//!
//! Written in assembly so that the compiler can neither recognise a copying loop made of them, and call
//! `memcpy` for it inside `memcpy`, nor check their alignment in builds with debug assertions. (The
//! attribute `no_builtins` would prevent the first, but keeps its crate out of link-time optimisation,
//! and such a crate cannot call one that takes part.)
use core::arch::asm;
use core::arch::x86_64::__m128i;

macro_rules! width {
    ($load:ident, $store:ident, $value:ty, $class:ident, $instruction:literal, $register:literal) => {
        /// Reads from `from`.
        ///
        /// # Safety
        /// The bytes at `from` are readable.
        #[inline(always)]
        pub(crate) unsafe fn $load(from: *const u8) -> $value {
            let value;
            // SAFETY: one load from memory that the caller vouches for.
            unsafe {
                asm!(
                    concat!($instruction, " ", $register, ", [{1}]"),
                    out($class) value, in(reg) from,
                    options(nostack, preserves_flags, readonly)
                );
            }
            value
        }

        /// Writes `value` to `to`.
        ///
        /// # Safety
        /// The bytes at `to` are writable.
        #[inline(always)]
        pub(crate) unsafe fn $store(to: *mut u8, value: $value) {
            // SAFETY: one store to memory that the caller vouches for.
            unsafe {
                asm!(
                    concat!($instruction, " [{1}], ", $register),
                    in($class) value, in(reg) to,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

width!(load1, store1, u8, reg_byte, "mov", "{0}");
width!(load4, store4, u32, reg, "mov", "{0:e}");
width!(load8, store8, u64, reg, "mov", "{0}");
width!(load16, store16, __m128i, xmm_reg, "movdqu", "{0}");
