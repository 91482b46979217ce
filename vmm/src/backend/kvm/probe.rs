//! Whether the KVM backend works on this machine.
use super::cpuid;
use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm};
use std::io;

/// Why the KVM backend does not work here.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// No KVM device.
    #[error("there is no /dev/kvm")]
    NoDevice,
    /// The device does not open.
    #[error("/dev/kvm does not open: {0}")]
    NoAccess(io::Error),
    /// Not the interface this was written for.
    #[error("/dev/kvm speaks version {0} of its interface, not {KVM_API_VERSION}")]
    Version(i32),
    /// KVM is too old.
    #[error("KVM here lacks {0:?}, which Linux has had since 4.17")]
    Capability(Cap),
    /// The processor is too old, or the outer hypervisor hides the feature.
    #[error("the processor that KVM offers has no FSGSBASE")]
    NoFsGsBase,
    /// A virtual machine cannot be made.
    #[error("KVM cannot make a virtual machine: {0}")]
    NoVm(io::Error),
}

impl Unavailable {
    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoDevice => {
                "use a machine with VT-x or AMD-V and load kvm_intel or kvm_amd; inside a VM, enable \
                 nested virtualization"
            }
            Self::NoAccess(_) => "add the user to the group of /dev/kvm",
            Self::Version(_) | Self::Capability(_) => "run Linux 4.17 or later",
            Self::NoFsGsBase => {
                "use a processor from 2012 or later, or let the outer VM see its features"
            }
            Self::NoVm(_) => "end other hypervisors",
        }
    }
}

impl From<kvm_ioctls::Error> for Unavailable {
    fn from(error: kvm_ioctls::Error) -> Self {
        let error = io::Error::from(error);
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoDevice,
            _ => Self::NoAccess(error),
        }
    }
}

/// Makes sure that KVM can run a guest, by making a virtual machine, too.
///
/// # Errors
/// What is missing.
pub fn probe() -> Result<(), Unavailable> {
    open()?.create_vm().map(drop).map_err(|e| Unavailable::NoVm(e.into()))
}

/// Opens KVM and makes sure that it has what a guest needs. Makes no virtual machine: Linux takes some
/// ten milliseconds to end one, longer than a guest needs to start.
pub(super) fn open() -> Result<Kvm, Unavailable> {
    let kvm = Kvm::new()?;
    match kvm.get_api_version() {
        version if version.cast_unsigned() == KVM_API_VERSION => {}
        version => return Err(Unavailable::Version(version)),
    }
    for capability in [Cap::UserMemory, Cap::ExtCpuid, Cap::SyncRegs, Cap::ImmediateExit] {
        if !kvm.check_extension(capability) {
            return Err(Unavailable::Capability(capability));
        }
    }
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    if !cpuid::has_fsgsbase(cpuid.as_slice()) {
        return Err(Unavailable::NoFsGsBase);
    }
    Ok(kvm)
}
