//! The start of the guest, its parameters and its end.
use crate::state::kernel;
use crate::{hypercall, logger, to_usize};
use core::cell::OnceCell;
use paravane_abi::start_info::{StartInfo, StartInfoError};

/// Arguments with this prefix configure the kernel and are not the application's.
const KERNEL_PREFIX: &str = "kernel.";

/// The kernel's copy of the start info.
pub(crate) struct State {
    info: OnceCell<StartInfo>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { info: OnceCell::new() }
    }
}

/// Takes the machine into use: reads the start info, then brings up the hypercalls, the heap, the
/// clock, the random generator, fiber stacks and the log. Whatever is wrong with the start info ends
/// the guest with a sentence about it.
///
/// # Safety
/// Called once, before anything else of the kernel, on the stack the guest was entered on, with the
/// address that the host passed in `rdi`.
pub unsafe fn boot(start_info: *const StartInfo) {
    let mut page = [0; size_of::<StartInfo>()];
    // SAFETY: by the caller, this is the start info page, which is at least as long as `StartInfo`
    // (asserted there) and which nothing writes to during the copy.
    unsafe { page.as_mut_ptr().copy_from_nonoverlapping(start_info.cast(), page.len()) };
    let info = match StartInfo::parse(&page) {
        Ok(info) => info,
        Err(error) => hypercall::panic(refusal(error)),
    };
    let kernel = kernel();
    // SAFETY: the start info is the host's word on where it mapped the page.
    unsafe { kernel.hypercalls.set_page(info.hypercall_page) };
    // SAFETY: as above for the time page. The regions are those that the contract calls free RAM,
    // and this is the only call.
    unsafe {
        kernel.clock.set_page(info.time_page);
        kernel.memory.add_free_ram(&info);
        kernel.fibers.add_stacks(&info);
    }
    kernel.entropy.seed(&info.seed);
    if kernel.start.info.set(info).is_err() {
        hypercall::panic("the kernel was booted twice");
    }
    logger::install(kernel_arguments());
}

fn refusal(error: StartInfoError) -> &'static str {
    match error {
        StartInfoError::Length => "the start info page is too short",
        StartInfoError::Magic => "the start info page has a wrong magic number",
        StartInfoError::Version(_) => "the host speaks an incompatible version of the contract",
        StartInfoError::Range => "a field of the start info page is out of range",
    }
}

/// The start info.
///
/// # Panics
/// Before [`boot`].
pub(crate) fn info() -> &'static StartInfo {
    kernel().start.info.get().expect("the kernel is used before it was booted")
}

fn all_arguments() -> impl Iterator<Item = &'static str> {
    kernel().start.info.get().into_iter().flat_map(StartInfo::arguments)
}

/// The arguments of the application, in order. The first is the first after `--` on the command line
/// of the VMM, not a program name. Arguments that begin with `kernel.` are the kernel's and left out.
pub fn arguments() -> impl Iterator<Item = &'static str> {
    all_arguments().filter(|argument| !argument.starts_with(KERNEL_PREFIX))
}

/// The arguments of the kernel without their prefix: `log=debug`.
fn kernel_arguments() -> impl Iterator<Item = &'static str> {
    all_arguments().filter_map(|argument| argument.strip_prefix(KERNEL_PREFIX))
}

/// The configuration file that the operator gave, byte for byte; empty without one.
#[must_use]
pub fn config() -> &'static [u8] {
    let info = info();
    let len = to_usize(u64::from(info.config_len));
    if len == 0 {
        return &[];
    }
    let blob = core::ptr::with_exposed_provenance(to_usize(info.config));
    // SAFETY: the contract maps `config_len` bytes of configuration there, read-only, for the
    // guest's whole life.
    unsafe { core::slice::from_raw_parts(blob, len) }
}

/// Ends the guest: writes out the console and hands `status` to the operator. 0 is success; statuses
/// from 100 are the VMM's own and better avoided.
pub fn exit(status: u8) -> ! {
    kernel().console.flush();
    hypercall::exit(status)
}
