//! The memory functions that compiled code expects, as string instructions so that the compiler does
//! not turn them into calls of themselves.
use core::arch::asm;

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller of memcpy vouches for both ranges.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: copying upwards overwrites nothing that is still to be read; the ranges are the caller's.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: `to` lies within the source, so that copying downwards from the last byte reads each byte
    // before it is overwritten; the ranges are the caller's, and not empty here.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _,
             inout("rdi") to.add(len - 1) => _, inout("rsi") from.add(len - 1) => _);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller of memset vouches for the range.
    unsafe { asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("eax") byte) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let (left, right): (*const u8, *const u8);
    let differ: u8;
    // SAFETY: the caller of memcmp vouches for both ranges. Comparing nothing leaves the flags of the
    // `cmp`: equal.
    unsafe {
        asm!("cmp al, al", "repe cmpsb", "setne {differ}", differ = out(reg_byte) differ,
             inout("rcx") len => _, inout("rdi") a => left, inout("rsi") b => right);
    }
    if differ == 0 {
        return 0;
    }
    // SAFETY: both point behind the bytes that differ, which lie in the ranges.
    unsafe { i32::from(*left.sub(1)) - i32::from(*right.sub(1)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, len) }
}

/// Named by the precompiled `core`; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
