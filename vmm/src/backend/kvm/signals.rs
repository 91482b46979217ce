//! Signals of the domain process: the watchdog's, which takes the guest's registers from it when it
//! hangs, and faults of the VMM in RAM that the guest talked a device into touching.
use super::ending;
use super::vcpu::Vcpu;
use crate::backend::{ENDED, WATCHDOG_SIGNAL};
use crate::domain::Domain;
use libc::{c_int, c_void, siginfo_t};
use paravane_abi::layout::ram_offset;
use paravane_host::ending::{Cause, Ending};
use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A guest's run, for the handlers.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) domain: *const Domain,
    pub(super) vcpu: *const Vcpu,
}

/// The byte of the vCPU that makes its next entry return at once; null until there is a vCPU.
static IMMEDIATE_EXIT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// The run of this process; null until the guest is entered.
static RUN: AtomicPtr<Run> = AtomicPtr::new(std::ptr::null_mut());

/// Installs the handlers. [`WATCHDOG_SIGNAL`] stops the vCPU whose `immediate_exit` this is: if it
/// runs, the signal itself interrupts it, and if it does not, the byte keeps it from running.
///
/// # Safety
/// `immediate_exit` stays valid as long as the process.
pub(super) unsafe fn install(immediate_exit: *mut u8) -> io::Result<()> {
    IMMEDIATE_EXIT.store(immediate_exit, Ordering::Relaxed);
    handle(WATCHDOG_SIGNAL, on_watchdog as *const () as usize)?;
    handle(libc::SIGSEGV, on_fault as *const () as usize)?;
    handle(libc::SIGBUS, on_fault as *const () as usize)
}

/// Tells the handlers what runs.
///
/// # Safety
/// `run` and what it points to stay valid until the process ends or this is called again.
pub(super) unsafe fn set_run(run: *mut Run) {
    RUN.store(run, Ordering::Release);
}

fn handle(signal: c_int, handler: usize) -> io::Result<()> {
    // SAFETY: all zeroes are a valid sigaction: nothing blocked, system calls not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: both handlers are async-signal-safe, see there, and have the form for SA_SIGINFO.
    let status = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "C" fn on_watchdog(_signal: c_int, _info: *const siginfo_t, _context: *const c_void) {
    let immediate_exit = IMMEDIATE_EXIT.load(Ordering::Relaxed);
    if !immediate_exit.is_null() {
        // SAFETY: `install`'s caller keeps it valid; the kernel reads the byte, nobody else.
        unsafe { immediate_exit.write_volatile(1) };
    }
}

/// Records the end of the guest and ends the process. It may allocate: the instructions of the VMM
/// that touch guest RAM hold no lock.
extern "C" fn on_fault(signal: c_int, info: &siginfo_t, _context: *const c_void) -> ! {
    // SAFETY: `set_run`'s caller keeps it valid. The thread does nothing else any more, so that shared
    // references to what it was working on are sound.
    if let Some(run) = unsafe { RUN.load(Ordering::Acquire).as_ref() } {
        // SAFETY: as above.
        let (domain, vcpu) = unsafe { (&*run.domain, &*run.vcpu) };
        let registers = ending::at_hypercall(vcpu, domain);
        let frames = domain.backtrace(&registers);
        let ending = Ending::crash(cause(signal, info, domain), registers);
        domain.black_box().record(&ending, frames.as_slice());
    }
    // SAFETY: `_exit` is async-signal-safe.
    unsafe { libc::_exit(ENDED) }
}

fn cause(signal: c_int, info: &siginfo_t, domain: &Domain) -> Cause {
    // SAFETY: every SIGSEGV and SIGBUS has this field; without a faulting instruction it is 0.
    let address = unsafe { info.si_addr() } as u64;
    let is_fault = info.si_code > 0;
    if is_fault && ram_offset(address, 1, domain.space().ram_size()).is_some() {
        return Cause::DeviceAddress { address };
    }
    Cause::Host { text: format!("signal {signal} in the VMM, at address {address:#x}") }
}
