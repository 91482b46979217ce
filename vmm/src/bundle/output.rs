//! A file that appears under its name when it is complete.
use super::WriteError;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file being written, under a temporary name beside its own; removed unless finished.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self, WriteError> {
        let failed = |source| WriteError::Output { path: path.to_owned(), source };
        if path.exists() && !path.is_file() {
            return Err(WriteError::NotAFile(path.to_owned()));
        }
        let name = path.file_name().ok_or_else(|| WriteError::NotAFile(path.to_owned()))?;
        let temporary = format!(".{}.{}", name.display(), std::process::id());
        let temporary = folder(path).join(temporary);
        let file = File::options().write(true).create_new(true).open(&temporary).map_err(failed)?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Nothing is there after a rename, and nothing can be done if removing fails.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The folder that `path` lies in.
pub(super) fn folder(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
