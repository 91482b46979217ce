//! What `paravane` says to the operator.
use std::fmt::Display;
use std::io::{Write, stderr};

/// Writes one line, or a report of several, to standard error: at once, so that the lines of guests
/// beside each other do not mix. Nothing is left to do if nobody reads it.
pub(crate) fn notice(text: impl Display) {
    let text = format!("paravane: {text}\n");
    let _ = stderr().write_all(text.as_bytes());
}
