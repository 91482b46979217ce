//! The end of the guest by a panic: a crash report instead of unwinding.
use crate::state::kernel;
use crate::{hypercall, memory};
use core::fmt::{self, Display, Write};
use paravane_abi::hypercall::TEXT_LEN_MAX;

/// Room for the text of a report; what does not fit is cut off. Enough for any message with its
/// place, and little enough for what is left of a fiber's stack.
const REPORT_LEN_MAX: usize = 1024;

const _: () = assert!(REPORT_LEN_MAX as u64 <= TEXT_LEN_MAX);

/// Text in a fixed buffer: a panic may well be about the heap.
struct Text {
    bytes: [u8; REPORT_LEN_MAX],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; REPORT_LEN_MAX], len: 0 }
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("(the panic message is not UTF-8)")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = text.floor_char_boundary(REPORT_LEN_MAX - self.len);
        self.bytes[self.len..][..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        if len == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Ends the guest with a crash report that quotes `info`, such as a `PanicInfo` or a
/// `PanicHookInfo`, after writing out the console. The backtrace in the report is the caller's. If memory
/// has just run out, the report says so first.
pub fn report(info: impl Display) -> ! {
    let mut text = Text::new();
    // An error means that the text was cut off, which the reader will see.
    let _ = match memory::shortage() {
        Some(shortage) => write!(text, "{shortage}: {info}"),
        None => write!(text, "{info}"),
    };
    kernel().console.flush();
    hypercall::panic(text.as_str())
}

/// Defines the panic handler of an image without std. Images with std call [`report`] in a panic
/// hook instead.
#[macro_export]
macro_rules! panic_handler {
    () => {
        #[panic_handler]
        fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::panic::report(info)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut text = Text::new();
        assert!(write!(text, "{}", "é".repeat(REPORT_LEN_MAX)).is_err());
        assert_eq!(text.as_str(), "é".repeat(REPORT_LEN_MAX / 2));
    }
}
