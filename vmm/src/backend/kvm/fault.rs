//! What the fault stubs leave behind: the frame that the processor pushed (Intel SDM volume 3, 6.14).

/// An exception that the guest raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Exception vector.
    pub(super) vector: u8,
    /// Error code, 0 for exceptions without one.
    pub(super) error_code: u64,
    /// Address of the instruction (the next one for a trap such as #BP).
    pub(super) rip: u64,
    /// Stack pointer of the guest.
    pub(super) rsp: u64,
    /// Flags of the guest.
    pub(super) rflags: u64,
}

impl Fault {
    /// Reads the words between the stack pointer of a stub and the top of its stack: the vector,
    /// the error code if the exception has one, and the frame.
    pub(super) fn decode(words: &[u64]) -> Option<Self> {
        let (vector, error_code, frame) = match *words {
            [vector, ref frame @ ..] if frame.len() == 5 => (vector, 0, frame),
            [vector, error_code, ref frame @ ..] if frame.len() == 5 => (vector, error_code, frame),
            _ => return None,
        };
        let &[rip, _cs, rflags, rsp, _ss] = frame else { return None };
        Some(Self { vector: u8::try_from(vector).ok()?, error_code, rip, rsp, rflags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_with_and_without_error_code() {
        let fault = Fault { vector: 6, error_code: 0, rip: 10, rsp: 13, rflags: 12 };
        assert_eq!(Fault::decode(&[6, 10, 11, 12, 13, 14]), Some(fault));
        let fault = Fault { vector: 14, error_code: 5, ..fault };
        assert_eq!(Fault::decode(&[14, 5, 10, 11, 12, 13, 14]), Some(fault));
    }

    #[test]
    fn anything_else_is_no_frame() {
        assert_eq!(Fault::decode(&[]), None);
        assert_eq!(Fault::decode(&[6, 10, 11, 12, 13]), None);
        assert_eq!(Fault::decode(&[0; 8]), None);
        assert_eq!(Fault::decode(&[256, 10, 11, 12, 13, 14]), None);
    }
}
