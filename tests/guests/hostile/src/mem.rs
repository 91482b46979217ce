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
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller of memset vouches for the range.
    unsafe { asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("eax") byte) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let differ: u8;
    // SAFETY: the caller of bcmp vouches for both ranges. Comparing nothing leaves the flags of the
    // `cmp`: equal.
    unsafe {
        asm!("cmp al, al", "repe cmpsb", "setne {differ}", differ = out(reg_byte) differ,
             inout("rcx") len => _, inout("rdi") a => _, inout("rsi") b => _);
    }
    i32::from(differ)
}

/// Named by the precompiled `core`; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
