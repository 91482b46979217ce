//! SQLite where there is no operating system below it.
//!
//! The library is compiled with `SQLITE_OS_OTHER` (see `.cargo/config.toml`): what it wants of an operating
//! system, it finds here. A guest and a native program that use this crate run the same code. So far there
//! are databases in memory only.
mod mutex;
mod system;

pub use rusqlite;

use std::sync::OnceLock;

/// SQLite did not take what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitializeError {
    /// SQLite's result code.
    pub code: i32,
}

impl std::fmt::Display for InitializeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code } = self;
        write!(f, "SQLite cannot be initialized: {}", libsqlite3_sys::code_to_str(*code))
    }
}

impl std::error::Error for InitializeError {}

/// Gives SQLite its mutexes and its operating system. To be called before anything else is asked of
/// SQLite; further calls do nothing.
///
/// # Errors
/// SQLite was in use before.
pub fn initialize() -> Result<(), InitializeError> {
    static RESULT: OnceLock<Result<(), InitializeError>> = OnceLock::new();
    *RESULT.get_or_init(|| {
        mutex::install()?;
        // SAFETY: no arguments; it calls `sqlite3_os_init`, which is ours.
        check(unsafe { libsqlite3_sys::sqlite3_initialize() })
    })
}

fn check(code: i32) -> Result<(), InitializeError> {
    if code == libsqlite3_sys::SQLITE_OK { Ok(()) } else { Err(InitializeError { code }) }
}

#[cfg(test)]
mod tests;
