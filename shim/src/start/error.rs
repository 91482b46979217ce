//! Why no guest is started, as a sentence for the operator.
use crate::machine::apic::ApicError;
use crate::machine::clock::NoTimer;
use crate::machine::cpu::CpuError;
use crate::machine::paging::PagingError;
use crate::pvh::PvhError;
use crate::virtio::DiscoverError;
use alloc::string::String;
use paravane_host::bundle::BundleError;
use paravane_host::image::ImageError;
use paravane_host::space::TooSmall;
use paravane_host::start_info::StartInfoError;
use paravane_host::status::Status;

/// Why no guest is started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Pvh(#[from] PvhError),
    #[error(transparent)]
    Bundle(BundleError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Cpu(#[from] CpuError),
    #[error(
        "the bundle does not fit into the machine's RAM ({have} of {need} bytes): give it more (QEMU: -m)"
    )]
    NoRoom { have: u64, need: u64 },
    #[error("{0}: give the machine more (QEMU: -m)")]
    TooSmall(#[from] TooSmall),
    #[error("the machine has no free RAM for the guest: give it more (QEMU: -m)")]
    NoRam,
    #[error(transparent)]
    Paging(#[from] PagingError),
    #[error(transparent)]
    Apic(#[from] ApicError),
    #[error(transparent)]
    Timer(#[from] NoTimer),
    #[error(transparent)]
    Devices(#[from] DiscoverError),
    #[error(transparent)]
    StartInfo(#[from] StartInfoError),
    #[error(
        "the image {image} needs a {device} device, and the machine shows none (QEMU: {remedy}; microvm shows them \
         with acpi=off only)"
    )]
    MissingDevice { image: String, device: &'static str, remedy: &'static str },
    #[error("the bundle's disk is truncated: {have} of {need} bytes")]
    TruncatedDisk { have: u64, need: u64 },
}

impl StartError {
    /// The exit status, by the rules of `paravane run`.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Bundle(_) | Self::Image(_) | Self::StartInfo(_) | Self::TruncatedDisk { .. } => {
                Status::IMAGE
            }
            _ => Status::HOST,
        }
    }
}

/// The loader put the whole payload behind the shim: when RAM ends before the payload does, RAM is short.
pub(super) fn refusal(error: BundleError) -> StartError {
    match error {
        BundleError::Truncated { have, need } => StartError::NoRoom { have, need },
        other => StartError::Bundle(other),
    }
}
