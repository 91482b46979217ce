//! Exit statuses of a run, and of `paravane`.

/// An exit status. Statuses 1 to 99 of `paravane run` are the guest's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// Ended as asked.
    pub const OK: Self = Self(0);
    /// `check` found a violation, or `doctor` no backend that works.
    pub const VIOLATION: Self = Self(1);
    /// Largest status that a guest can give itself.
    pub const GUEST_MAX: Self = Self(99);
    /// The command line is wrong.
    pub const USAGE: Self = Self(100);
    /// There is no such image, or it is refused.
    pub const IMAGE: Self = Self(101);
    /// A file, a resource or a privilege of the host is missing.
    pub const HOST: Self = Self(102);
    /// The guest crashed: a fault, a panic, or a broken contract.
    pub const CRASHED: Self = Self(103);
    /// The guest hung.
    pub const HUNG: Self = Self(104);
    /// The VMM failed.
    pub const INTERNAL: Self = Self(105);
    /// The operator did not wait for the guest to end.
    pub const INTERRUPTED: Self = Self(130);

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// The status of a guest that ended itself with `status`; `None` above [`Status::GUEST_MAX`].
    #[must_use]
    pub fn of_guest(status: u8) -> Option<Self> {
        (status <= Self::GUEST_MAX.0).then_some(Self(status))
    }
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}
