//! A guest with a network, such as the web appliance, on each of its hosts.
use crate::host::{Host, QEMU, bundle, machine, paravane, text, words};
use crate::server::Server;
use anyhow::Result;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Through a port of the host, by the user network of `paravane` or QEMU.
    User,
    /// Through a TAP interface of its own.
    Tap,
}

/// What is started.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Name of an image that comes with Paravane, or path of one.
    pub(crate) image: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) site: Option<PathBuf>,
    /// Text of its configuration; none if it is empty.
    pub(crate) config: String,
    pub(crate) memory_mib: u32,
    /// The port that it is going to answer on.
    pub(crate) port: u16,
}

impl Guest {
    /// The web appliance with its usual memory, which serves the folder `site` without an access log.
    pub(crate) fn web(site: &Path) -> Self {
        Self {
            image: "web".into(),
            arguments: Vec::new(),
            site: Some(site.to_owned()),
            config: "access_log = false\n".into(),
            memory_mib: 64,
            port: 80,
        }
    }

    /// The flags that `paravane run` and `paravane bundle` have in common. `folder` takes the files
    /// that this needs.
    fn flags(&self, folder: &Path) -> Result<Vec<String>> {
        let mut flags = Vec::new();
        if let Some(site) = &self.site {
            flags.extend(["--site".into(), text(site)]);
        }
        if !self.config.is_empty() {
            let file = folder.join("guest.toml");
            fs::write(&file, &self.config)?;
            flags.extend(["--config".into(), text(&file)]);
        }
        Ok(flags)
    }

    fn trailing(&self) -> Vec<String> {
        let separator = (!self.arguments.is_empty()).then(|| "--".to_owned());
        separator.into_iter().chain(self.arguments.iter().cloned()).collect()
    }
}

/// What QEMU's machine has beyond the guest's memory, for the shim, MiB.
const SHIM_MIB: u32 = 64;

/// A command that starts a guest, and where it is going to answer.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) address: String,
}

impl Launch {
    /// `folder` takes the files that this needs.
    pub(crate) fn new(host: Host, network: Network, guest: &Guest, folder: &Path) -> Result<Self> {
        match host {
            Host::Process | Host::Kvm => Self::paravane(host, network, guest, folder),
            Host::Emulation => Self::qemu(host, network, guest, folder),
        }
    }

    pub(crate) fn start(&self) -> Result<Server> {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Server::start(&self.program, &arguments, &self.address)
    }

    fn paravane(host: Host, network: Network, guest: &Guest, folder: &Path) -> Result<Self> {
        let memory = format!("{}M", guest.memory_mib);
        let mut arguments =
            words(&["run", &guest.image, "--backend", host.name(), "--memory", &memory]);
        arguments.extend(guest.flags(folder)?);
        let address = match network {
            Network::User => {
                let address = free_address()?;
                arguments.extend(["--publish".into(), format!("{address}:{}", guest.port)]);
                address
            }
            Network::Tap => {
                let net = host.subnet();
                let [ip, gateway] = [format!("10.{net}.0.2/24"), format!("10.{net}.0.1")];
                arguments.extend(words(&["--net", "tap", "--ip", &ip, "--gateway", &gateway]));
                format!("10.{net}.0.2:{}", guest.port)
            }
        };
        arguments.extend(guest.trailing());
        Ok(Self { program: paravane(), arguments, address })
    }

    fn qemu(host: Host, network: Network, guest: &Guest, folder: &Path) -> Result<Self> {
        let file = folder.join("guest.elf");
        let mut flags = guest.flags(folder)?;
        let net = host.subnet();
        let (netdev, address) = match network {
            Network::User => {
                let address = free_address()?;
                (format!("user,id=net,hostfwd=tcp:{address}-:{}", guest.port), address)
            }
            Network::Tap => {
                flags.extend(words(&["--ip", &format!("10.{net}.0.2/24")]));
                let script = up_script(net, folder)?;
                let netdev = format!("tap,id=net,ifname=emulated,script={script},downscript=no");
                (netdev, format!("10.{net}.0.2:{}", guest.port))
            }
        };
        flags.extend(guest.trailing());
        bundle(&file, &guest.image, &flags)?;
        let mut arguments = machine(&file, guest.memory_mib + SHIM_MIB);
        arguments.extend(words(&["-netdev", &netdev, "-device", "virtio-net-device,netdev=net"]));
        if guest.site.is_some() {
            let drive = format!("file={},format=raw,readonly=on,if=none,id=disk", text(&file));
            arguments.extend(words(&["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]));
        }
        Ok(Self { program: QEMU.into(), arguments, address })
    }
}

/// The script that QEMU runs to bring its end of the TAP interface up.
fn up_script(net: u8, folder: &Path) -> Result<String> {
    let script = folder.join("up");
    fs::write(
        &script,
        format!("#!/bin/sh\nip addr add 10.{net}.0.1/24 dev $1\nip link set $1 up\n"),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(text(&script))
}

/// A port of the loopback interface that nobody has.
pub(crate) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
