//! Makes the guest's TSC the host's, so that one time page serves every backend.
use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_device_attr, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use std::arch::x86_64::_rdtsc;
use std::io;
use std::os::fd::AsRawFd;

const MSR_TSC: u32 = 0x10;

/// `KVM_SET_DEVICE_ATTR` (Linux, `include/uapi/linux/kvm.h`), which kvm-ioctls has for ARM only.
const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;

/// Removes the offset between the TSC of the guest and the host's.
pub(super) fn follow_host(vcpu: &VcpuFd) -> io::Result<()> {
    match set_offset(vcpu, 0) {
        Ok(()) => Ok(()),
        // Linux before 5.16. The guest then lags by the time that the call takes.
        Err(_) => set_value(vcpu),
    }
}

fn set_offset(vcpu: &VcpuFd, offset: u64) -> io::Result<()> {
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: (&raw const offset) as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads the structure and the eight bytes at `addr`, both alive here.
    let status =
        unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_DEVICE_ATTR, &raw const attribute) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_value(vcpu: &VcpuFd) -> io::Result<()> {
    // SAFETY: every x86-64 processor has a TSC, and Linux lets processes read it.
    let data = unsafe { _rdtsc() };
    let entry = kvm_msr_entry { index: MSR_TSC, data, ..Default::default() };
    let msrs = Msrs::from_entries(&[entry]).map_err(|e| io::Error::other(format!("{e:?}")))?;
    match vcpu.set_msrs(&msrs)? {
        1 => Ok(()),
        _ => Err(io::Error::other("KVM does not let the guest's TSC be set")),
    }
}
