//! The web appliance on each of its hosts.
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

/// A command that starts the appliance, and where it is going to answer.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) address: String,
}

impl Launch {
    /// Serves the folder `site` without an access log. `folder` takes the files that this needs.
    pub(crate) fn new(host: Host, network: Network, site: &Path, folder: &Path) -> Result<Self> {
        let config = folder.join("web.toml");
        fs::write(&config, "access_log = false\n")?;
        match host {
            Host::Process | Host::Kvm => Self::paravane(host, network, site, &config),
            Host::Emulation => Self::qemu(host, network, site, &config, folder),
        }
    }

    pub(crate) fn start(&self) -> Result<Server> {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Server::start(&self.program, &arguments, &self.address)
    }

    fn paravane(host: Host, network: Network, site: &Path, config: &Path) -> Result<Self> {
        let mut arguments = words(&["run", "web", "--backend", host.name()]);
        arguments.extend(["--site".into(), text(site), "--config".into(), text(config)]);
        let address = match network {
            Network::User => {
                let address = free_address()?;
                arguments.extend(["--publish".into(), format!("{address}:80")]);
                address
            }
            Network::Tap => {
                let net = host.subnet();
                let [guest, gateway] = [format!("10.{net}.0.2/24"), format!("10.{net}.0.1")];
                arguments.extend(words(&["--net", "tap", "--ip", &guest, "--gateway", &gateway]));
                format!("10.{net}.0.2:80")
            }
        };
        Ok(Self { program: paravane(), arguments, address })
    }

    fn qemu(
        host: Host,
        network: Network,
        site: &Path,
        config: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let file = folder.join("site.elf");
        let mut flags = words(&["--site", &text(site), "--config", &text(config)]);
        let net = host.subnet();
        let (netdev, address) = match network {
            Network::User => {
                let address = free_address()?;
                (format!("user,id=net,hostfwd=tcp:{address}-:80"), address)
            }
            Network::Tap => {
                flags.extend(words(&["--ip", &format!("10.{net}.0.2/24")]));
                let script = up_script(net, folder)?;
                let netdev = format!("tap,id=net,ifname=emulated,script={script},downscript=no");
                (netdev, format!("10.{net}.0.2:80"))
            }
        };
        bundle(&file, "web", &flags)?;
        let drive = format!("file={},format=raw,readonly=on,if=none,id=disk", text(&file));
        let mut arguments = machine(&file, 128);
        arguments.extend(words(&["-netdev", &netdev, "-device", "virtio-net-device,netdev=net"]));
        arguments.extend(words(&["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]));
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

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
