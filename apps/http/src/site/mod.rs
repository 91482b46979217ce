//! The site: a tar archive on a disk, indexed once, its files found by request path.
mod index;
mod media_type;
mod member;
#[cfg(test)]
pub(crate) mod tests;
mod window;

pub use index::index;

use std::collections::HashMap;
use std::io;

/// Why a disk cannot be served.
#[derive(Debug)]
pub enum IndexError {
    /// The disk could not be read.
    Read {
        /// Byte offset of the failed read.
        offset: u64,
        /// What the disk said.
        error: io::Error,
    },
    /// A header block is no tar header, or its checksum is wrong.
    Damaged {
        /// Byte offset of the header block.
        offset: u64,
    },
    /// A file reaches beyond the end of the disk.
    Truncated {
        /// Byte offset of the file's header block.
        offset: u64,
    },
}

impl std::fmt::Display for IndexError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { offset, error } => {
                write!(f, "the site's disk cannot be read at byte {offset}: {error}")
            }
            Self::Damaged { offset } => {
                write!(f, "the site is not a tar archive, or damaged: bad header at byte {offset}")
            }
            Self::Truncated { offset } => {
                write!(f, "the site's archive is cut short: the file at byte {offset} has no end")
            }
        }
    }
}

impl std::error::Error for IndexError {}

/// Number of a file in its [`Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId(u32);

impl FileId {
    /// The file's place in a table with one entry per file.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A content coding that a file can be stored in beside its plain form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// `file.br` beside `file`.
    Brotli,
    /// `file.gz` beside `file`.
    Gzip,
}

impl Coding {
    /// All codings, the most compact first.
    pub(crate) const ALL: [Self; 2] = [Self::Brotli, Self::Gzip];

    /// The coding's name in `Accept-Encoding` and `Content-Encoding` (RFC 9110, 8.4.1).
    pub(crate) const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    const fn suffix(self) -> &'static [u8] {
        match self {
            Self::Brotli => b".br",
            Self::Gzip => b".gz",
        }
    }
}

/// A file of the site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    /// Byte offset of the content on the disk, a multiple of the sector size.
    pub(crate) offset: u64,
    /// Bytes of content.
    pub(crate) len: u64,
    /// Unix time of the last change, seconds.
    pub(crate) modified: u64,
    /// Value of `Content-Type`.
    pub(crate) media_type: &'static str,
    variants: [Option<FileId>; Coding::ALL.len()],
}

impl File {
    /// The same content in `coding`, if the site has it.
    pub(crate) fn variant(&self, coding: Coding) -> Option<FileId> {
        self.variants[coding as usize]
    }

    /// Whether the site has the content in any coding.
    pub(crate) fn has_variants(&self) -> bool {
        self.variants.iter().any(Option::is_some)
    }
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file, or the index page of a directory.
    File(FileId),
    /// A directory with an index page, named without its final slash.
    Directory,
    /// Nothing.
    Nothing,
}

/// An indexed site.
#[derive(Debug, Default)]
pub struct Site {
    files: Vec<File>,
    /// Site paths without leading slash; directories with an index page end in a slash, the root is
    /// the empty path.
    paths: HashMap<Box<[u8]>, FileId>,
    skipped: usize,
}

impl Site {
    /// Number of files.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.files.iter().map(|file| file.len).fold(0, u64::saturating_add)
    }

    /// Number of archive members that cannot be served: dangling links, sparse files, paths that
    /// leave the archive.
    #[must_use]
    pub fn skipped_count(&self) -> usize {
        self.skipped
    }

    pub(crate) fn file(&self, id: FileId) -> &File {
        &self.files[id.index()]
    }

    /// Finds what a decoded request path without its leading slash names.
    pub(crate) fn find(&self, path: &[u8]) -> Found {
        if let Some(&id) = self.paths.get(path) {
            return Found::File(id);
        }
        let directory = [path, b"/"].concat();
        if self.paths.contains_key(&directory[..]) { Found::Directory } else { Found::Nothing }
    }
}
