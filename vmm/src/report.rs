//! Crash reports with file and line, from the image's line tables.
#![forbid(unsafe_code)]
pub(crate) use crate::domain::Plan;
use crate::image_file::ImageFile;
use paravane_host::ending::Crash;
use paravane_host::report::{Report, Symbols};
use paravane_host::space::AddressSpace;
use paravane_host::status::Status;
use std::io;

/// What is known of a guest before it runs.
#[derive(Debug)]
pub struct Subject {
    name: String,
    file: ImageFile,
    space: AddressSpace,
}

impl Subject {
    /// The guest of `plan`.
    ///
    /// # Errors
    /// The image's descriptor cannot be duplicated.
    pub fn new(plan: &Plan) -> io::Result<Self> {
        Ok(Self {
            name: plan.image().manifest().name().to_owned(),
            file: plan.file().try_clone()?,
            space: plan.space().clone(),
        })
    }

    /// The report on `crash`, with the addresses of the call stack and the last of the console's output;
    /// `status` is the exit status that follows.
    #[must_use]
    pub fn report(&self, crash: &Crash, frames: &[u64], console: &[u8], status: Status) -> String {
        // Without the image's bytes, addresses must do.
        let image = self.file.read_all().unwrap_or_default();
        let symbols = &Symbols::new(&image);
        let Self { name, space, .. } = self;
        Report { name, space, symbols, crash, frames, console, status }.to_string()
    }
}
