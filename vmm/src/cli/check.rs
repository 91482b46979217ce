//! `paravane check`.
use super::args::Check;
use super::{Failure, Status, fail, images, print, with};
use crate::audit::{self, Report, ShimReport};
use crate::bundle::{Parts, Shim};
use paravane_host::bundle::BundleError;
use paravane_host::image::Image;
use serde::Serialize;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::path::Path;

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Checked {
    Image(Report),
    Shim(ShimReport),
    Bundle { shim: ShimReport, image: Report },
}

/// Checks an image, the shim or a bundle of both.
pub(super) fn check(args: &Check) -> Status {
    match examine(&args.image) {
        Ok(checked) => {
            print(&checked, args.json);
            if checked.is_clean() { Status::OK } else { Status::VIOLATION }
        }
        Err((status, error)) => fail(status, &error),
    }
}

fn examine(name: &Path) -> Result<Checked, Failure> {
    let path = images::find(name).map_err(with(Status::HOST))?;
    let named = |error: &dyn Display| format!("{}: {error}", path.display());
    let unreadable = |error| (Status::HOST, named(&error));
    let file = File::open(&path).map_err(unreadable)?;
    let checked = match Parts::read(&file).map_err(unreadable)? {
        Some(parts) => bundle(&parts, file.metadata().map_err(unreadable)?.len()),
        None => program(fs::read(&path).map_err(unreadable)?),
    };
    checked.map_err(|error| (Status::VIOLATION, named(&error)))
}

fn bundle(parts: &Parts, have: u64) -> Result<Checked, Box<dyn Display>> {
    let bundle = parts.bundle().map_err(boxed)?;
    let need = bundle.file_len;
    if have < need {
        return Err(boxed(BundleError::Truncated { have, need }));
    }
    Image::read(bundle.image).map_err(boxed)?;
    let shim = audit::sweep_shim(parts.shim()).map_err(boxed)?;
    Ok(Checked::Bundle { shim, image: audit::sweep(bundle.image).map_err(boxed)? })
}

/// Checks an image, or the shim, which is none.
fn program(bytes: Vec<u8>) -> Result<Checked, Box<dyn Display>> {
    match Image::read(bytes.as_slice()) {
        Ok(_) => Ok(Checked::Image(audit::sweep(&bytes).map_err(boxed)?)),
        Err(error) => {
            let shim = Shim::parse(bytes).map_err(|_| boxed(error))?;
            Ok(Checked::Shim(audit::sweep_shim(shim.bytes()).map_err(boxed)?))
        }
    }
}

fn boxed(error: impl Display + 'static) -> Box<dyn Display> {
    Box::new(error)
}

impl Checked {
    fn is_clean(&self) -> bool {
        match self {
            Self::Image(image) => image.findings.is_empty(),
            Self::Shim(shim) => shim.is_clean(),
            Self::Bundle { shim, image } => shim.is_clean() && image.findings.is_empty(),
        }
    }
}

impl Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => image.fmt(f),
            Self::Shim(shim) => shim.fmt(f),
            Self::Bundle { shim, image } => write!(f, "{shim}\n\n{image}"),
        }
    }
}
