//! What a guest may do with a page.
use object::elf::{PF_W, PF_X, ProgramFlags};

/// What a guest may do with a page. Writable and executable at once does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: a guard page.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

impl Access {
    /// The access that the flags of an ELF program header ask for; `None` for writable and
    /// executable.
    #[must_use]
    pub fn from_elf(flags: ProgramFlags) -> Option<Self> {
        match (flags.contains(PF_W), flags.contains(PF_X)) {
            (false, false) => Some(Self::Read),
            (true, false) => Some(Self::ReadWrite),
            (false, true) => Some(Self::ReadExecute),
            (true, true) => None,
        }
    }

    /// Whether the guest may read.
    #[must_use]
    pub fn can_read(self) -> bool {
        self != Self::None
    }

    /// Whether the guest may write.
    #[must_use]
    pub fn can_write(self) -> bool {
        self == Self::ReadWrite
    }

    /// Whether the guest may execute.
    #[must_use]
    pub fn can_execute(self) -> bool {
        self == Self::ReadExecute
    }
}
