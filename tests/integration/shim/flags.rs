//! The flags of `paravane run` as those of `paravane bundle` and a machine.
use super::machine::{Machine, Model};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Memory of a guest if nothing else is said, as of `paravane run`.
const MEMORY_MIB: u64 = 64;

/// RAM of the machine beside the guest's: for what lies below 1 MiB, the shim, the bundle and page tables.
/// The guest gets what is left, in whole blocks of 2 MiB.
const MEMORY_BESIDE_MIB: u64 = 16;

/// What a case asks `paravane run` for.
#[derive(Debug, Default)]
pub(super) struct Flags<'a> {
    image: &'a str,
    memory_mib: Option<u64>,
    net: Option<&'a str>,
    publish: Vec<&'a str>,
    site: Option<&'a str>,
    disks: Vec<&'a str>,
    /// Those that `paravane bundle` has, too.
    others: Vec<&'a str>,
    /// From `--` on.
    arguments: &'a [&'a str],
}

impl<'a> Flags<'a> {
    pub(super) fn parse(words: &'a [&'a str]) -> Result<Self> {
        let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let mut flags = Self { arguments: &words[end..], ..Self::default() };
        let mut words = words[..end].iter().copied();
        while let Some(word) = words.next() {
            if word.starts_with("--") {
                flags.add(word, words.next().with_context(|| format!("{word} has no value"))?)?;
            } else {
                flags.image = word;
            }
        }
        Ok(flags)
    }

    fn add(&mut self, flag: &'a str, value: &'a str) -> Result<()> {
        match flag {
            "--memory" => self.memory_mib = Some(mebibytes(value)?),
            "--net" => self.net = Some(value),
            "--publish" => self.publish.push(value),
            "--site" => self.site = Some(value),
            "--disk" => self.disks.push(value),
            _ => self.others.extend([flag, value]),
        }
        Ok(())
    }

    /// What follows `paravane`.
    pub(super) fn bundle_words(&self, bundle: &'a str) -> Vec<&'a str> {
        let site = self.site.map(|site| ["--site", site]);
        let words = ["bundle", self.image, "-o", bundle];
        [&words, site.as_slice().as_flattened(), &self.others, self.arguments].concat()
    }

    /// The machine that boots the bundle: its first disk is the bundle itself if there is a site in it.
    pub(super) fn machine(&self, model: Model, bundle: &Path) -> Result<Machine> {
        let memory_mib = self.memory_mib.unwrap_or(MEMORY_MIB) + MEMORY_BESIDE_MIB;
        let mut machine = Machine::new(model, memory_mib, bundle);
        if self.site.is_some() {
            machine = machine.with_disk(bundle, true);
        }
        for disk in &self.disks {
            let path = disk.strip_suffix(",ro");
            machine = machine.with_disk(Path::new(path.unwrap_or(disk)), path.is_some());
        }
        Ok(match self.netdev()? {
            Some(netdev) => machine.with_network(&netdev),
            None => machine,
        })
    }

    /// What the network device is connected to.
    fn netdev(&self) -> Result<Option<String>> {
        match self.net.map(|net| net.split_once('=').unwrap_or((net, ""))) {
            None | Some(("user", "")) => {
                let ports: Result<String> = self.publish.iter().map(|port| forward(port)).collect();
                Ok(Some(format!("user{}", ports?)))
            }
            Some(("tap", name)) if !name.is_empty() => {
                Ok(Some(format!("tap,ifname={name},script=no,downscript=no")))
            }
            Some(("none", "")) => Ok(None),
            Some(_) => bail!("no such network on a machine: {:?}", self.net),
        }
    }
}

fn mebibytes(size: &str) -> Result<u64> {
    let count = size.strip_suffix('M').context("cases give memory in MiB")?;
    Ok(count.parse()?)
}

/// `ADDRESS:HOST:GUEST[/udp]` as an option of QEMU's user network.
fn forward(publish: &str) -> Result<String> {
    let (host, guest) = publish.rsplit_once(':').context("cases give address and ports")?;
    let (guest, protocol) = guest.split_once('/').unwrap_or((guest, "tcp"));
    Ok(format!(",hostfwd={protocol}:{host}-:{guest}"))
}
