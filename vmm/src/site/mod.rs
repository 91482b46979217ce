//! `--site PATH`: the site that a web appliance serves, as a read-only block device that holds a tar.
//!
//! A tar file is used as it is. A directory is packed when the domain starts: the guest sees the site
//! as it was then, and nothing of the host's file system beside it.
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// What the site's block device is called.
pub const TAG: &str = "site";

/// Bytes that are collected before they are written to the archive.
const BUFFER_LEN: usize = 256 << 10;

/// Why a site cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file or directory cannot be read.
    #[error("cannot read {} of the site: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A symbolic link leads out of the site.
    #[error("{} of the site links to {}, outside the site", path.display(), target.display())]
    Outside {
        /// The link.
        path: PathBuf,
        /// What it points at.
        target: PathBuf,
    },
    /// A symbolic link leads back to a directory that contains it.
    #[error("{} of the site links to a directory that contains it", .0.display())]
    Circle(PathBuf),
    /// Not a file, a directory or a link to one.
    #[error("{} of the site is neither a file nor a directory", .0.display())]
    Kind(PathBuf),
    /// A name that a tar cannot hold.
    #[error("the name of {} is not UTF-8 or too long for a tar", .0.display())]
    Name(PathBuf),
    /// A file had another length when it was packed than when it was looked at.
    #[error("{} changed while the site was packed", .0.display())]
    Changed(PathBuf),
    /// A file that the guest could not read.
    #[error("the site {} is not a directory, nor a tar archive: {source}", path.display())]
    NotTar {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the site's archive: {0}")]
    Archive(#[source] io::Error),
}

/// Opens the site at `path`, a tar file or a directory, as a tar.
///
/// # Errors
/// The first thing in the site that cannot be served.
pub fn open(path: &Path) -> Result<File, SiteError> {
    match Root::of(path)? {
        Root::Archive(archive) => Ok(archive),
        Root::Directory(root) => {
            let mut archive = temporary_file().map_err(SiteError::Archive)?;
            pack(root, &mut archive)?;
            archive.rewind().map_err(SiteError::Archive)?;
            Ok(archive)
        }
    }
}

/// Writes the site at `path`, a tar file or a directory, to `output` as a tar.
///
/// # Errors
/// As [`open`], or the output cannot be written.
pub fn write(path: &Path, mut output: impl Write) -> Result<(), SiteError> {
    match Root::of(path)? {
        Root::Archive(mut archive) => {
            check(&archive)
                .map_err(|source| SiteError::NotTar { path: path.to_owned(), source })?;
            archive.rewind().map_err(read_error(path))?;
            let mut archive = BufReader::with_capacity(BUFFER_LEN, archive);
            io::copy(&mut archive, &mut output).map_err(SiteError::Archive)?;
            Ok(())
        }
        Root::Directory(root) => pack(root, output),
    }
}

/// What `--site` names.
enum Root {
    /// A tar file.
    Archive(File),
    /// A directory to pack, without links.
    Directory(PathBuf),
}

impl Root {
    fn of(path: &Path) -> Result<Self, SiteError> {
        let root = path.canonicalize().map_err(read_error(path))?;
        let metadata = fs::metadata(&root).map_err(read_error(path))?;
        if metadata.is_file() {
            return File::open(&root).map(Self::Archive).map_err(read_error(path));
        }
        if !metadata.is_dir() {
            return Err(SiteError::Kind(path.to_owned()));
        }
        Ok(Self::Directory(root))
    }
}

/// Reads the headers of a tar file, and looks whether its last member is whole.
fn check(archive: &File) -> io::Result<()> {
    let len = archive.metadata()?.len();
    for entry in tar::Archive::new(archive).entries_with_seek()? {
        let entry = entry?;
        let end = entry.raw_file_position().checked_add(entry.size());
        if end.is_none_or(|end| end > len) {
            return Err(io::Error::other("it ends in the middle of a file"));
        }
    }
    Ok(())
}

fn pack(root: PathBuf, output: impl Write) -> Result<(), SiteError> {
    let builder = Builder::new(BufWriter::with_capacity(BUFFER_LEN, output));
    let mut packer = Packer { builder, ancestors: vec![root.clone()], root };
    packer.directory(Path::new(""))?;
    packer.finish().map_err(SiteError::Archive)
}

struct Packer<W: Write> {
    root: PathBuf,
    builder: Builder<BufWriter<W>>,
    /// The directories being packed, from the root down, without links.
    ancestors: Vec<PathBuf>,
}

impl<W: Write> Packer<W> {
    /// Packs what is in directory `name`, in the order of the names.
    fn directory(&mut self, name: &Path) -> Result<(), SiteError> {
        let path = self.root.join(name);
        let entries = fs::read_dir(&path).map_err(read_error(&path))?;
        let mut found = entries
            .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))))
            .collect::<io::Result<Vec<_>>>()
            .map_err(read_error(&path))?;
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found.iter().try_for_each(|(entry, kind)| self.entry(&name.join(entry), *kind))
    }

    fn entry(&mut self, name: &Path, kind: FileType) -> Result<(), SiteError> {
        let path = self.root.join(name);
        let (target, kind) = self.resolve(name, &path, kind)?;
        if kind.is_file() {
            return self.file(name, &path);
        }
        if !kind.is_dir() {
            return Err(SiteError::Kind(path));
        }
        let metadata = fs::metadata(&target).map_err(read_error(&path))?;
        if self.ancestors.contains(&target) {
            return Err(SiteError::Circle(path));
        }
        let mut header = header(name, &metadata, EntryType::Directory, 0)?;
        self.append(&mut header, io::empty())?;
        self.ancestors.push(target);
        self.directory(name)?;
        self.ancestors.pop();
        Ok(())
    }

    /// Where an entry leads and what is there. Only a link can lead elsewhere than into its directory.
    fn resolve(
        &self,
        name: &Path,
        path: &Path,
        kind: FileType,
    ) -> Result<(PathBuf, FileType), SiteError> {
        if !kind.is_symlink() {
            let directory = self.ancestors.last().unwrap_or(&self.root);
            return Ok((directory.join(name.file_name().unwrap_or_default()), kind));
        }
        let target = path.canonicalize().map_err(read_error(path))?;
        if !target.starts_with(&self.root) {
            return Err(SiteError::Outside { path: path.to_owned(), target });
        }
        let kind = fs::metadata(&target).map_err(read_error(path))?.file_type();
        Ok((target, kind))
    }

    fn file(&mut self, name: &Path, path: &Path) -> Result<(), SiteError> {
        let mut file = File::open(path).map_err(read_error(path))?;
        let metadata = file.metadata().map_err(read_error(path))?;
        let len = metadata.len();
        let mut header = header(name, &metadata, EntryType::Regular, len)?;
        let mut content = Content { file: (&mut file).take(len), left: len };
        self.append(&mut header, &mut content)?;
        if content.left > 0 { Err(SiteError::Changed(path.to_owned())) } else { Ok(()) }
    }

    fn append(&mut self, header: &mut Header, content: impl Read) -> Result<(), SiteError> {
        header.set_cksum();
        self.builder.append(header, content).map_err(SiteError::Archive)
    }

    fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }
}

/// The content of a file, with a count of what did not come.
struct Content<'a> {
    file: io::Take<&'a mut File>,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buffer)?;
        self.left -= len as u64;
        Ok(len)
    }
}

/// A header that tells the name, the length and the time of the last change, and nothing else about
/// the host.
fn header(
    name: &Path,
    metadata: &Metadata,
    kind: EntryType,
    len: u64,
) -> Result<Header, SiteError> {
    let mut header = Header::new_ustar();
    let is_utf8 = name.to_str().is_some();
    if !is_utf8 || header.set_path(name).is_err() {
        return Err(SiteError::Name(name.to_owned()));
    }
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(len);
    Ok(header)
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> SiteError {
    let path = path.to_owned();
    move |source| SiteError::Read { path, source }
}

/// A file without a name: on disk, or in memory where the file system has no such files.
fn temporary_file() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(std::env::temp_dir())
        .or_else(|_| memory_file())
}

fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a constant string that ends in NUL.
    let descriptor = unsafe { libc::memfd_create(c"site".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests;
