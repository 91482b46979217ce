//! Limits of this process that those it starts inherit.
use anyhow::{Context, Result};
use std::io;

/// Files that may be open, if the machine allows: both ends of 4096 connections, and more.
const OPEN_FILES: libc::rlim_t = 65_536;

/// Raises the limit on open files as far as is allowed and of use.
pub(crate) fn raise_open_files() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the result goes to a variable here.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let raised = libc::rlimit {
        rlim_cur: OPEN_FILES.max(limit.rlim_cur),
        rlim_max: OPEN_FILES.max(limit.rlim_max),
    };
    // SAFETY: both limits are variables here.
    if check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) }).is_ok() {
        return Ok(());
    }
    // Only root may raise the upper one.
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

fn check(result: i32) -> Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("limit on open files")
    }
}
