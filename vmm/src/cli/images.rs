//! Finds images.
use super::{Failure, Status, with};
use crate::image_file::ImageFile;
use paravane_host::image::Image;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Folder of the bundled images, beside the program.
const FOLDER: &str = "images";

/// No such image.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    /// A path that does not lead to a file.
    #[error("there is no image file {}", .0.display())]
    NoFile(PathBuf),
    /// A name that is neither a bundled image's nor a file's.
    #[error("there is no image {name:?}: neither a file of that name nor bundled in {}", folder.display())]
    NoName {
        /// The name.
        name: String,
        /// Where bundled images are looked for.
        folder: PathBuf,
    },
}

/// The file of image `image`: a path if it has a slash, else the name of a bundled image, or a file in
/// the current folder.
pub(super) fn find(image: &Path) -> Result<PathBuf, FindError> {
    let is_name = image.components().count() == 1 && !image.starts_with(".");
    if !is_name {
        let found = image.exists().then(|| image.to_owned());
        return found.ok_or_else(|| FindError::NoFile(image.to_owned()));
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new(".")).join(FOLDER);
    let bundled = folder.join(image);
    [bundled, image.to_owned()]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| FindError::NoName { name: image.display().to_string(), folder })
}

/// Finds and reads image `image`, which is to be run or bundled.
pub(super) fn open(image: &Path) -> Result<(ImageFile, Image), Failure> {
    let path = find(image).map_err(with(Status::IMAGE))?;
    let failed = |error: &dyn Display| (Status::IMAGE, format!("{}: {error}", path.display()));
    let file = ImageFile::open(&path).map_err(|e| failed(&e))?;
    let image = Image::read(&file).map_err(|e| failed(&e))?;
    Ok((file, image))
}
