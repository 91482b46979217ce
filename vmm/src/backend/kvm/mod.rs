//! The KVM backend: the guest runs in a virtual machine with one vCPU, at CPL 3 from the first
//! instruction, and leaves it by port I/O.
//!
//! RAM, the host pages and some system memory are slots of guest-physical memory; page tables that
//! the guest cannot reach give it the address space of the contract. No device, interrupt controller
//! or timer of KVM's is used.
mod cause;
mod cpuid;
mod descriptors;
mod ending;
mod fault;
mod paging;
mod ports;
mod probe;
mod signals;
mod state;
mod system;
mod tsc;
mod vcpu;

use super::{Backend, BackendError};
use crate::domain::Domain;
use crate::jail::Rule;
use paravane_abi::layout::{HYPERCALL_PAGE, RAM_BASE, START_INFO};
use paravane_host::ending::{Cause, Ending, Registers};
use signals::Run;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use vcpu::{Exit, Slot, Vcpu};

pub use probe::{Unavailable, probe};

/// Requests of ioctl(2) on the vCPU (Linux, `include/uapi/linux/kvm.h`).
const KVM_RUN: u32 = 0xae80;
const KVM_GET_SREGS: u32 = 0x8138_ae83;

/// Runs guests in virtual machines.
#[derive(Debug)]
pub struct Kvm {
    device: kvm_ioctls::Kvm,
    vcpu: Option<Vcpu>,
}

impl Kvm {
    /// Opens KVM.
    ///
    /// # Errors
    /// Why guests cannot run under KVM here.
    pub fn new() -> Result<Self, Unavailable> {
        Ok(Self { device: probe::open()?, vcpu: None })
    }
}

impl Backend for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.device.as_raw_fd()]
    }

    fn system_calls(&self) -> &'static [Rule] {
        const RULES: [Rule; 3] = [
            Rule::ioctl(KVM_RUN),
            Rule::ioctl(KVM_GET_SREGS),
            // The handler of the watchdog's signal returns.
            Rule::call(libc::SYS_rt_sigreturn),
        ];
        &RULES
    }

    fn prepare(&mut self, domain: &mut Domain) -> Result<(), BackendError> {
        domain.host_pages().write(HYPERCALL_PAGE, &ports::hypercall_page());
        let host = |step| move |error| BackendError::Host { step, error };
        let mut vcpu =
            build(&self.device, domain).map_err(host("the virtual machine cannot be made"))?;
        // SAFETY: the vCPU lives in the backend, as long as the domain process.
        unsafe { signals::install(vcpu.immediate_exit()) }
            .map_err(host("the signal handlers cannot be installed"))?;
        self.vcpu = Some(vcpu);
        Ok(())
    }

    fn run(&mut self, domain: &mut Domain) -> Ending {
        let Some(vcpu) = &mut self.vcpu else {
            return host_failure("the virtual machine was not prepared".into());
        };
        domain.start_clock();
        let mut run = Run { domain, vcpu };
        // SAFETY: the run, the domain and the vCPU live until the second call.
        unsafe { signals::set_run(&raw mut run) };
        let ending = run_guest(vcpu, domain);
        // SAFETY: null is no run.
        unsafe { signals::set_run(std::ptr::null_mut()) };
        ending
    }
}

fn run_guest(vcpu: &mut Vcpu, domain: &mut Domain) -> Ending {
    loop {
        match vcpu.run() {
            Ok(Exit::Hypercall(call)) => {
                let regs = vcpu.registers();
                match domain.hypercall(call, [regs.rdi, regs.rsi, regs.rdx]) {
                    Ok(result) => vcpu.set_result(result.cast_unsigned()),
                    Err(stop) => return stop.with_registers(ending::at_hypercall(vcpu, domain)),
                }
            }
            Ok(Exit::Interrupted) if vcpu.must_stop() => {
                return Ending::crash(Cause::Hang, ending::registers(vcpu));
            }
            Ok(Exit::Interrupted) => {}
            Ok(Exit::End(end)) => return ending::ending(end, vcpu, domain),
            Err(error) => return host_failure(format!("KVM cannot run the guest: {error}")),
        }
    }
}

fn build(device: &kvm_ioctls::Kvm, domain: &mut Domain) -> io::Result<Vcpu> {
    let (_, host_pages_len) = domain.host_pages().alias();
    let host_pages_len = host_pages_len as u64;
    let slots = [
        Slot { phys: system::RAM_PHYS, host: RAM_BASE, len: domain.space().ram_size() },
        Slot { phys: system::HOST_PAGES_PHYS, host: START_INFO, len: host_pages_len },
    ];
    let system = system::image(domain.space(), host_pages_len);
    // SAFETY: RAM and host pages stay mapped as long as the domain process, and the VMM accesses them
    // as memory that the guest shares.
    let mut vcpu = unsafe { Vcpu::new(device, &slots, &system)? };
    vcpu.enter_at(domain.entry(), domain.space().entry_stack(), START_INFO)?;
    Ok(vcpu)
}

fn host_failure(text: String) -> Ending {
    Ending::crash(Cause::Host { text }, Registers::default())
}
