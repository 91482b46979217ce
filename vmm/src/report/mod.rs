//! Crash reports: what happened to a guest, for the people who run and write it.
use crate::cli::Status;
use crate::domain::{AddressSpace, Plan};
use crate::ending::{Cause, Crash};
use std::fmt;
use std::fs::File;
use std::io;

/// What is known of a guest before it runs.
#[derive(Debug)]
pub struct Subject {
    name: String,
    file: File,
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
}

/// A crash report; shown by its `Display`.
#[derive(Debug)]
pub struct Report<'a> {
    /// The guest.
    pub subject: &'a Subject,
    /// What happened.
    pub crash: &'a Crash,
    /// Addresses of the call stack, innermost first.
    pub frames: &'a [u64],
    /// The last of the console's output.
    pub console: &'a [u8],
    /// The exit status that follows.
    pub status: Status,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paravane: {} {}", self.subject.name, describe(&self.crash.cause))?;
        writeln!(f, "{:x?}", self.crash.registers)?;
        for frame in self.frames {
            writeln!(f, "  {frame:#x}")?;
        }
        Ok(())
    }
}

fn describe(cause: &Cause) -> String {
    format!("{cause:x?}")
}
