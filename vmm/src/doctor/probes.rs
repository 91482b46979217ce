//! The single checks. Each looks without changing anything.
use super::Probed;
use crate::backend;
use crate::bundle::Shim;
use crate::memory::GuestRam;
use paravane_abi::layout::RAM_SIZE_MIN;
use std::fs::{File, OpenOptions};
use std::io;
use std::process::Command;

/// Whether the KVM backend works here.
pub(super) fn kvm() -> Probed {
    match backend::kvm::probe() {
        Ok(()) => Ok(format!("/dev/kvm makes virtual machines ({})", virtualization())),
        Err(e) => Err((e.to_string(), e.remedy())),
    }
}

/// What KVM stands on, by the processor's flags.
fn virtualization() -> &'static str {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag| flags.split_whitespace().any(|word| word == flag);
    match (has("vmx"), has("svm")) {
        (true, _) => "VT-x",
        (_, true) => "AMD-V",
        _ => "software: the processor shows neither VT-x nor AMD-V",
    }
}

/// Whether bundles can be made.
pub(super) fn shim() -> Probed {
    match Shim::installed() {
        Ok(shim) => Ok(format!("{} KiB, as a part of each bundle", shim.bytes().len() >> 10)),
        Err(e) => {
            Err((e.to_string(), "build it with scripts/build; bundles cannot be made without"))
        }
    }
}

/// Whether there is a QEMU to boot bundles with.
pub(super) fn qemu() -> Probed {
    let output = Command::new("qemu-system-x86_64").arg("--version").output();
    let output = output.map_err(|e| {
        (
            format!("qemu-system-x86_64 does not start: {e}"),
            "install QEMU (Debian: qemu-system-x86)",
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or("it does not tell its version").to_owned())
}

/// Whether the process backend works here.
pub(super) fn process() -> Probed {
    if let Err(error) = backend::process::Process::probe() {
        return Err((error.to_string(), "do not disable them with the kernel option nofsgsbase"));
    }
    match GuestRam::new(RAM_SIZE_MIN) {
        Ok(_) => Ok("FSGSBASE is on and the guest's address range is free".into()),
        Err(e) => Err((
            format!("the guest's address range cannot be mapped: {e}"),
            "raise the limit on address space (ulimit -v) and vm.max_map_count",
        )),
    }
}

/// Whether the kernel has seccomp filters.
pub(super) fn seccomp() -> Probed {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    match actions {
        Ok(actions) if actions.contains("kill_process") => Ok("filters are available".into()),
        _ => Err((
            "the kernel has no seccomp filters".into(),
            "run a kernel with CONFIG_SECCOMP_FILTER; without it no domain is started",
        )),
    }
}

/// Whether the kernel has landlock, an additional wall where present.
pub(super) fn landlock() -> Probed {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no pointer and only returns the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    if version > 0 {
        Ok(format!("version {version} of its interface is available"))
    } else {
        Err((
            format!("not available: {}", io::Error::last_os_error()),
            "add landlock to the kernel's lsm= list for a second wall; domains run without it",
        ))
    }
}

/// Whether sockets for the user network can be made.
pub(super) fn user_network() -> Probed {
    match std::net::TcpListener::bind("127.0.0.1:0") {
        Ok(_) => Ok("needs no privilege".into()),
        Err(e) => Err((
            format!("cannot listen on 127.0.0.1: {e}"),
            "bring the loopback interface up, or use --net none",
        )),
    }
}

/// Whether this process may create TAP interfaces.
pub(super) fn tap_create() -> Probed {
    open_tun()?;
    if has_net_admin() {
        Ok("CAP_NET_ADMIN is held".into())
    } else {
        Err((
            "CAP_NET_ADMIN is missing".into(),
            "have root create an interface for you: ip tuntap add dev NAME mode tap user USER \
             vnet_hdr; then use --net tap=NAME",
        ))
    }
}

/// Whether this process may attach to TAP interfaces that root made for it.
pub(super) fn tap_open() -> Probed {
    open_tun().map(|_| "/dev/net/tun opens".into())
}

fn open_tun() -> Result<File, (String, &'static str)> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|e| (format!("/dev/net/tun does not open: {e}"), "load the module tun"))
}

/// Whether the effective capability set has CAP_NET_ADMIN (bit 12, capabilities(7)).
fn has_net_admin() -> bool {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    set.is_some_and(|set| set & CAP_NET_ADMIN != 0)
}
