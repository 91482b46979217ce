//! What `paravane` says to the operator.
use std::fmt::Display;
use std::io::{Write, stderr};

/// Writes one line to standard error. Nothing is left to do if nobody reads it.
pub(crate) fn notice(text: impl Display) {
    let _ = writeln!(stderr(), "paravane: {text}");
}
