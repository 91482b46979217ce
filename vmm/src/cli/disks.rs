//! `--site`, `--disk`: the guest's block devices.
use super::args::Storage;
use super::{Failure, Status, with};
use crate::devices::{BlockDevice, Device};
use crate::site;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the operator calls the first disk; the others follow in the alphabet.
const FIRST_TAG: u8 = b'a';

/// A value of `--disk`: `PATH` or `PATH,ro`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    path: PathBuf,
    is_read_only: bool,
}

impl FromStr for Disk {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, is_read_only) = match text.strip_suffix(",ro") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.is_empty() {
            return Err("give the path of a file");
        }
        Ok(Self { path: path.into(), is_read_only })
    }
}

/// What the operator calls the disks after a site.
pub(super) fn tags() -> impl Iterator<Item = String> {
    (FIRST_TAG..=b'z').map(|letter| format!("disk-{}", char::from(letter)))
}

/// Opens the site and the disks, in this order.
pub(super) fn build(flags: &Storage) -> Result<Vec<Box<dyn Device>>, Failure> {
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    if let Some(path) = &flags.site {
        let archive = site::open(path).map_err(with(Status::HOST))?;
        devices.push(Box::new(device(site::TAG, path, archive, true)?));
    }
    for (tag, disk) in tags().zip(&flags.disk) {
        let Disk { path, is_read_only } = disk;
        let named = |e| (Status::HOST, format!("{}: {e}", path.display()));
        let file = File::options().read(true).write(!is_read_only).open(path).map_err(named)?;
        if file.metadata().map_err(named)?.is_dir() {
            return Err((Status::HOST, format!("{}: a disk is a file", path.display())));
        }
        devices.push(Box::new(device(&tag, path, file, *is_read_only)?));
    }
    Ok(devices)
}

fn device(tag: &str, path: &Path, file: File, is_read_only: bool) -> Result<BlockDevice, Failure> {
    BlockDevice::new(tag, file, is_read_only)
        .map_err(|e| (Status::HOST, format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks() {
        let disk = |path: &str, is_read_only| Ok(Disk { path: path.into(), is_read_only });
        assert_eq!("a.img".parse(), disk("a.img", false));
        assert_eq!("a.img,ro".parse(), disk("a.img", true));
        assert_eq!("a,b.img".parse(), disk("a,b.img", false));
        assert!("".parse::<Disk>().is_err());
        assert!(",ro".parse::<Disk>().is_err());
    }
}
