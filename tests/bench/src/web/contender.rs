//! What is compared.
use super::namespace;
use super::native;
use super::veth::Veth;
use super::work::Work;
use crate::appliance::{Launch, Network};
use crate::host::{Host, QEMU, installed};
use crate::server::Server;
use anyhow::Result;
use clap::ValueEnum;
use std::fs;
use std::path::Path;

/// A server and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// nginx over loopback: what the others are compared with. A plain epoll server for uploads.
    Nginx,
    /// The same in a network namespace of its own, over a veth pair.
    NginxVeth,
    /// The appliance on the process backend, through a TAP interface.
    ProcessTap,
    /// The same through the user network.
    ProcessUser,
    /// The appliance on the kvm backend, through a TAP interface.
    KvmTap,
    /// A bundle in QEMU, every instruction translated, through a TAP interface.
    EmulationTap,
}

/// A server that runs, and its wire. The wire goes first.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) _wire: Option<Veth>,
    pub(crate) server: Server,
}

impl Contender {
    /// The word on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxVeth => "nginx-veth",
            Self::ProcessTap => "process-tap",
            Self::ProcessUser => "process-user",
            Self::KvmTap => "kvm-tap",
            Self::EmulationTap => "emulation-tap",
        }
    }

    /// Why it cannot be had here, if it cannot.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let needs_namespace =
            matches!(self, Self::NginxVeth | Self::ProcessTap | Self::KvmTap | Self::EmulationTap);
        match self {
            _ if needs_namespace && !namespace::is_own() => {
                Some("no root, or not in a network namespace of its own")
            }
            Self::Nginx | Self::NginxVeth if !installed("nginx") => Some("no nginx"),
            Self::KvmTap if !fs::exists("/dev/kvm").unwrap_or(false) => Some("no /dev/kvm"),
            Self::EmulationTap if !installed(QEMU) => Some("no QEMU"),
            _ => None,
        }
    }

    /// Starts it for some work. `folder`, which is empty, takes the files that this needs.
    pub(crate) fn start(self, work: Work, folder: &Path) -> Result<Running> {
        let on = |host, network| -> Result<Running> {
            let server = Launch::new(host, network, &work.guest(), folder)?.start()?;
            Ok(Running { _wire: None, server })
        };
        match self {
            Self::Nginx => native::over_loopback(work, folder),
            Self::NginxVeth => native::over_veth(work, folder),
            Self::ProcessTap => on(Host::Process, Network::Tap),
            Self::ProcessUser => on(Host::Process, Network::User),
            Self::KvmTap => on(Host::Kvm, Network::Tap),
            Self::EmulationTap => on(Host::Emulation, Network::Tap),
        }
    }
}
