//! The process backend: the guest runs in the domain process itself, at ring 3 like every process,
//! behind a system call filter.
//!
//! The domain process is the wall: the guest can read and write what is mapped in it, and the process
//! holds nothing but the guest's descriptors.
mod gate;
mod signals;

use super::{Backend, BackendError};
use crate::domain::Domain;
use crate::jail::Rule;
use gate::{GATE, GuestFrame, Reply};
use paravane_abi::hypercall::{SLOT_SIZE, SLOTS_RESERVED};
use paravane_abi::layout::{HYPERCALL_PAGE, PAGE_SIZE, RAM_BASE, START_INFO};
use paravane_host::ending::{Cause, Ending, Registers};
use paravane_host::width::to_usize;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress};

/// Where the hypercall page keeps the address of the gate, behind the slots.
const TARGET_OFFSET: u64 = SLOT_SIZE * SLOTS_RESERVED;

/// Runs guests as part of a process.
#[derive(Debug, Default)]
pub struct Process;

/// A guest's run.
#[derive(Debug)]
struct Run {
    domain: *mut Domain,
    ending: Option<Ending>,
}

impl Process {
    /// Checks that this machine has what the backend needs.
    ///
    /// # Errors
    /// The processor or the kernel does not let processes change their FS base.
    pub fn probe() -> Result<(), BackendError> {
        /// `HWCAP2_FSGSBASE` (Linux, `asm/hwcap2.h`).
        const FSGSBASE: u64 = 1 << 1;
        // SAFETY: `getauxval` has no preconditions.
        let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        if capabilities & FSGSBASE == 0 {
            return Err(BackendError::Unsupported(
                "the process backend needs the FSGSBASE instructions (an x86-64 processor since \
                 Ivy Bridge, and Linux 5.9 or newer)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl Backend for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }

    fn system_calls(&self) -> &'static [Rule] {
        &[]
    }

    fn prepare(&mut self, domain: &mut Domain) -> Result<(), BackendError> {
        Self::probe()?;
        GATE.prepare();
        let pages = domain.host_pages();
        pages.write(HYPERCALL_PAGE, &hypercall_page());
        let host = |step| move |error| BackendError::Host { step, error };
        pages
            .make_hypercall_page_executable()
            .map_err(host("the hypercall page cannot be made executable"))?;
        signals::install().map_err(host("the fault handlers cannot be installed"))
    }

    fn run(&mut self, domain: &mut Domain) -> Ending {
        let (entry, stack) = (domain.entry(), domain.space().entry_stack());
        domain.start_clock();
        let mut run = Run { domain, ending: None };
        let run_pointer = &raw mut run;
        GATE.run.store(run_pointer, Ordering::Release);
        // SAFETY: the domain is built, its gate points to `run`, and `prepare` installed the handlers.
        unsafe { gate::enter_guest(entry, stack, START_INFO) };
        GATE.run.store(std::ptr::null_mut(), Ordering::Release);
        // SAFETY: `run` lives in this frame; the guest, the other user of the pointer, was left.
        let ending = unsafe { (*run_pointer).ending.take() };
        ending.unwrap_or_else(|| {
            let text = "the guest was left without an ending".to_owned();
            Ending::crash(Cause::Host { text }, Registers::default())
        })
    }
}

/// The host's side of [`gate::hypercall_gate`].
extern "C" fn handle_hypercall(call: u64, a: u64, b: u64, c: u64, frame: &GuestFrame) -> Reply {
    // SAFETY: a guest runs only while `run` of `Process::run` is alive, and hypercalls do not nest:
    // these are the only references to the run and its domain.
    let run = unsafe { &mut *GATE.run.load(Ordering::Acquire) };
    // SAFETY: as above.
    let domain = unsafe { &mut *run.domain };
    match domain.hypercall(call, [a, b, c]) {
        Ok(result) => Reply { result, leave: 0 },
        Err(stop) => {
            run.ending = Some(stop.with_registers(frame.registers(return_address(domain, frame))));
            Reply { result: 0, leave: 1 }
        }
    }
}

/// The address that the hypercall of `frame` would return to; 0 if the guest's stack is no memory.
fn return_address(domain: &Domain, frame: &GuestFrame) -> u64 {
    let readable = domain.space().check(frame.rsp, 8, paravane_host::access::Access::can_read);
    let read = |offset| domain.ram().memory().read_obj(GuestAddress(offset)).ok();
    readable.and_then(read).unwrap_or(0)
}

/// The hypercall page: each slot loads its number and jumps to the gate.
fn hypercall_page() -> Vec<u8> {
    let mut page = vec![0xcc; to_usize(PAGE_SIZE)];
    for slot in 0..SLOTS_RESERVED {
        let start = slot * SLOT_SIZE;
        // mov eax, slot; jmp [rip + displacement], which counts from the end of the 11 bytes.
        let displacement = TARGET_OFFSET - (start + 11);
        let mut code = vec![0xb8];
        code.extend_from_slice(&low_half(slot));
        code.extend_from_slice(&[0xff, 0x25]);
        code.extend_from_slice(&low_half(displacement));
        page[to_usize(start)..][..code.len()].copy_from_slice(&code);
    }
    let target = (gate::hypercall_gate as *const () as u64).to_le_bytes();
    page[to_usize(TARGET_OFFSET)..][..8].copy_from_slice(&target);
    page
}

/// The low 32 bits, as an instruction's operand.
fn low_half(value: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = value.to_le_bytes();
    [a, b, c, d]
}

/// Whether `rip` is an address of the guest: its RAM or the host pages that it may use.
fn is_guest(rip: u64) -> bool {
    (START_INFO..RAM_BASE + paravane_abi::layout::RAM_SIZE_MAX).contains(&rip)
}
