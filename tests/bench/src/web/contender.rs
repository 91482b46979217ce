//! What is compared.
use clap::ValueEnum;

/// A server and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// nginx over loopback: what the others are compared with.
    Nginx,
    /// The web appliance on the process backend, through a TAP interface.
    ProcessTap,
    /// The same through the user network.
    ProcessUser,
    /// The web appliance on the kvm backend, through a TAP interface.
    KvmTap,
    /// A bundle in QEMU, every instruction translated, through a TAP interface.
    EmulationTap,
}
