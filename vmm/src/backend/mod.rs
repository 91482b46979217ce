//! Backends: how the guest's instructions are executed.
//!
//! A backend is created by the supervisor, prepared in the domain process while that still has its
//! privileges, and runs the guest there once they are gone. It hands every hypercall to
//! [`Domain::hypercall`] and turns whatever else happens into an [`Ending`].
pub mod kvm;
pub mod process;

use crate::domain::Domain;
use crate::jail::Rule;
use paravane_host::ending::Ending;
use std::fmt::Debug;
use std::io;
use std::os::fd::RawFd;

/// A way to execute a guest.
pub trait Backend: Debug {
    /// Name, as on the command line.
    fn name(&self) -> &'static str;

    /// Descriptors that the backend holds already and needs in the domain process.
    fn descriptors(&self) -> Vec<RawFd>;

    /// The system calls that [`Backend::run`] makes beyond those that every domain may make.
    fn system_calls(&self) -> &'static [Rule];

    /// In the domain process, before its privileges are dropped: makes everything ready for
    /// [`Backend::run`], the contents of the hypercall page included.
    ///
    /// # Errors
    /// The host refuses.
    fn prepare(&mut self, domain: &mut Domain) -> Result<(), BackendError>;

    /// Runs the guest to its end. The backend calls [`Domain::start_clock`] right before it enters
    /// the guest for the first time.
    ///
    /// When the supervisor finds that the guest hangs, it sends [`WATCHDOG_SIGNAL`] to the domain
    /// process: the backend then ends with [`paravane_host::ending::Cause::Hang`] and the guest's registers.
    fn run(&mut self, domain: &mut Domain) -> Ending;
}

/// The signal by which the supervisor asks for the registers of a guest that hangs.
pub const WATCHDOG_SIGNAL: libc::c_int = libc::SIGUSR1;

/// Why a backend cannot run a guest here.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The machine lacks something; a sentence.
    #[error("{0}")]
    Unsupported(String),
    /// A step failed.
    #[error("{step}: {error}")]
    Host {
        /// What was attempted, as a clause.
        step: &'static str,
        /// What the host said.
        #[source]
        error: io::Error,
    },
}

/// Exit status of a domain process that recorded its end; anything else says that it was killed.
pub const ENDED: libc::c_int = 0;
