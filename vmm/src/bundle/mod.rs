//! `paravane bundle`: an image, the shim and a site in one file, which boots where none of our VMM is.
//! `docs/bundle.md` is the format's description.
//!
//! The file is an ELF executable to a loader and a tar archive to whoever reads it as a disk.
#![forbid(unsafe_code)]
mod head;
mod output;
mod parts;
mod progress;
mod shim;
#[cfg(test)]
mod tests;

use crate::site::{self, SiteError};
use head::{ARCHIVE_END, Head, SECTOR_LEN};
use output::Output;
use paravane_host::bundle::{Bundle, BundleError};
use progress::Progress;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub use parts::{Parts, PartsError};
pub use shim::{NoShim, Shim, ShimError};

/// Why a bundle cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What is to be told to the shim breaks a rule of the format.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Something of the site cannot be put into the bundle.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The bundle would be put into the directory that it is made of.
    #[error("{} lies in the site: it would become a part of itself", .0.display())]
    InSite(PathBuf),
    /// Something that is not to be replaced is in the way.
    #[error("{} is in the way, and not a file", .0.display())]
    NotAFile(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `bundle` with the site at `site` behind `shim` to the file `path`, which is replaced in one
/// step if it exists. The result is the length of the file; that in `bundle` is not looked at.
///
/// # Errors
/// The first thing that cannot be read, packed or written; then no file is left behind.
pub fn write(
    shim: &Shim,
    bundle: &Bundle<'_>,
    site: Option<&Path>,
    path: &Path,
) -> Result<u64, WriteError> {
    refuse_inside(path, site)?;
    let failed = |source| WriteError::Output { path: path.to_owned(), source };
    // The payload tells how long the file is, which is known when the site has been written behind it.
    let payload_len = Bundle { file_len: u64::MAX, ..bundle.clone() }.encode()?.len() as u64;
    let head = Head::new(shim, payload_len);
    let output = Output::create(path)?;
    output.file().seek(SeekFrom::Start(head.len())).map_err(failed)?;
    if let Some(site) = site {
        site::write(site, Progress::new(output.file(), site))?;
    }
    let file_len = end_archive(output.file()).map_err(failed)?;
    let payload = Bundle { file_len, ..bundle.clone() }.encode()?;
    output.file().rewind().map_err(failed)?;
    head.write(&payload, output.file()).map_err(failed)?;
    output.finish().map_err(failed)?;
    Ok(file_len)
}

/// Fills the last sector, and ends the archive; the result is its length.
fn end_archive(mut file: impl Write + Seek) -> io::Result<u64> {
    let end = file.stream_position()?;
    let padding = end.next_multiple_of(SECTOR_LEN) - end;
    io::copy(&mut io::Read::take(io::repeat(0), padding), &mut file)?;
    file.write_all(&ARCHIVE_END)?;
    file.stream_position()
}

fn refuse_inside(path: &Path, site: Option<&Path>) -> Result<(), WriteError> {
    let resolved = |path: &Path| path.canonicalize().ok();
    let folder = resolved(output::folder(path));
    match (folder, site.and_then(resolved)) {
        (Some(folder), Some(site)) if folder.starts_with(&site) => {
            Err(WriteError::InSite(path.to_owned()))
        }
        _ => Ok(()),
    }
}
