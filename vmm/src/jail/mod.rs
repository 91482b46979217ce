//! The jail: what the domain process and the supervisor can still do once everything is set up.
//!
//! The domain process is the boundary around a hostile guest. It holds the guest's descriptors only,
//! cannot open anything, cannot gain privileges, and can make but a few system calls, none of them
//! from the guest's own code.
mod filter;
mod rules;
#[cfg(test)]
mod tests;

use filter::Filter;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;
use std::io;

pub use rules::Rule;

/// Exit status of a supervisor that its filter stopped, see `cli::Status::INTERNAL`.
const INTERNAL: libc::c_int = 105;

/// A step of the confinement failed; the guest is not started.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// A limit or attribute of the process.
    #[error("the sandbox cannot be set up: {0}")]
    Process(#[from] rustix::io::Errno),
    /// Landlock.
    #[error("the sandbox cannot take the file system away: {0}")]
    Landlock(#[from] RulesetError),
    /// Seccomp.
    #[error("the sandbox cannot filter system calls (is seccomp enabled in this kernel?): {0}")]
    Seccomp(#[source] io::Error),
}

/// Confines the domain process, all of its threads, to what a domain needs; `more` names system calls
/// that the backend needs besides.
///
/// # Errors
/// A step that failed. Landlock counts as done where the kernel does not have it.
pub fn confine_domain(more: &[Rule]) -> Result<(), JailError> {
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A core dump would write the guest's memory to the host's disk.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    let filter = Filter::new(true, &rules::domain(more));
    filter.install().map_err(JailError::Seccomp)
}

/// Confines the supervisor to watching the domain and carrying its user-mode network.
///
/// # Errors
/// A step that failed.
pub fn confine_supervisor() -> Result<(), JailError> {
    set_no_new_privs(true)?;
    // SAFETY: `on_forbidden_call` is async-signal-safe and does not return.
    unsafe { libc::signal(libc::SIGSYS, on_forbidden_call as *const () as libc::sighandler_t) };
    Filter::new(false, &rules::supervisor()).install().map_err(JailError::Seccomp)
}

/// The supervisor made a system call that its filter does not know: a defect, or a C library with ways
/// of its own. The domain process ends with its supervisor.
extern "C" fn on_forbidden_call(_signal: libc::c_int) {
    let text = b"paravane: the supervisor was ended by its own sandbox: a defect\n";
    // SAFETY: both calls are async-signal-safe; the text is static.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(INTERNAL);
    }
}
