//! The files that are served.
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    Bytes128,
    Kib1,
    Mib1,
    Mib64,
}

impl File {
    pub(crate) const ALL: [Self; 4] = [Self::Bytes128, Self::Kib1, Self::Mib1, Self::Mib64];

    /// The part of a load's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes128 => "128",
            Self::Kib1 => "1k",
            Self::Mib1 => "1m",
            Self::Mib64 => "64m",
        }
    }

    /// Length, bytes.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Bytes128 => 128,
            Self::Kib1 => 1 << 10,
            Self::Mib1 => 1 << 20,
            Self::Mib64 => 64 << 20,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
    pub(crate) fn len_f64(self) -> f64 {
        self.len() as f64
    }

    pub(crate) fn path(self) -> String {
        format!("/{}.bin", self.name())
    }

    /// What is in it. Bytes that repeat at no round distance show pieces in the wrong place.
    pub(crate) fn body(self) -> Vec<u8> {
        (0..=250).cycle().take(self.len()).collect()
    }
}

/// The folder of files.
#[derive(Debug)]
pub(crate) struct Site(PathBuf);

impl Site {
    /// Writes all files to a new folder.
    pub(crate) fn write(folder: &Path) -> Result<Self> {
        let site = folder.join("site");
        fs::create_dir(&site)?;
        // nginx's worker, which is not root, has to get there.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        for file in File::ALL {
            let path = site.join(format!("{}.bin", file.name()));
            fs::write(&path, file.body()).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Self(site))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }
}
