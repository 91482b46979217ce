//! The virtual machine and its one vCPU: set-up, and running until the guest wants something.
use super::fault::Fault;
use super::state::PortGuard;
use super::{cpuid, ports, state, system, tsc};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_sregs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use paravane_abi::layout::{HYPERCALL_PAGE, PAGE_SIZE};
use paravane_host::width::to_usize;
use std::io;
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

/// Where VT-x without "unrestricted guest" may put three pages of its own: unused, below 4 GiB.
const VTX_PAGES: usize = 0xfffb_d000;

/// A piece of this process' memory that becomes guest-physical memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Guest-physical address.
    pub(super) phys: u64,
    /// Address in this process.
    pub(super) host: u64,
    /// Bytes.
    pub(super) len: u64,
}

/// Why the guest stopped running.
#[derive(Debug)]
pub(super) enum Exit {
    /// It makes a hypercall.
    Hypercall(u64),
    /// A signal came.
    Interrupted,
    /// It cannot go on.
    End(End),
}

/// Why the guest cannot go on.
#[derive(Debug)]
pub(super) enum End {
    /// It raised an exception.
    Fault(Fault),
    /// It did port I/O of its own.
    PortAccess(u16),
    /// KVM does not say more than this.
    Dead(String),
}

/// The virtual machine.
#[derive(Debug)]
pub(super) struct Vcpu {
    fd: VcpuFd,
    /// Keeps the slots of the virtual machine.
    _vm: VmFd,
    system: MmapRegion,
    /// Control and segment registers of a guest at CPL 3.
    user: kvm_sregs,
}

impl Vcpu {
    /// Makes a virtual machine with `slots` and the system memory `system_image`.
    ///
    /// # Safety
    /// The memory behind the slots stays mapped as long as the virtual machine exists, and no Rust
    /// reference points into it: the guest changes it.
    pub(super) unsafe fn new(kvm: &Kvm, slots: &[Slot], system_image: &[u8]) -> io::Result<Self> {
        let vm = kvm.create_vm()?;
        vm.set_tss_address(VTX_PAGES)?;
        let system = system_memory(system_image)?;
        let system_slot = Slot {
            phys: system::SYSTEM_PHYS,
            host: system.as_ptr() as u64,
            len: system.size() as u64,
        };
        for (number, slot) in (0..).zip(slots.iter().chain([&system_slot])) {
            let region = kvm_userspace_memory_region {
                slot: number,
                guest_phys_addr: slot.phys,
                memory_size: slot.len,
                userspace_addr: slot.host,
                ..Default::default()
            };
            // SAFETY: the caller vouches for `slots`; `system` lives as long as the vCPU and is
            // read through volatile accesses only.
            unsafe { vm.set_user_memory_region(region)? };
        }
        let mut fd = vm.create_vcpu(0)?;
        let user = set_up(kvm, &mut fd)?;
        Ok(Self { fd, _vm: vm, system, user })
    }

    /// Sets the vCPU to enter the guest at `rip`, on the stack `rsp`, with argument `rdi`.
    ///
    /// # Errors
    /// KVM does not take the state.
    pub(super) fn enter_at(&mut self, rip: u64, rsp: u64, rdi: u64) -> io::Result<()> {
        let guard = self.port_guard()?;
        self.fd.set_sregs(&self.user)?;
        Ok(self.fd.set_regs(&state::registers(rip, rsp, rdi, guard))?)
    }

    /// Finds out by trying a hypercall whether the I/O bitmap is respected. Where it is not, the trial
    /// ends in a fault stub.
    fn port_guard(&mut self) -> io::Result<PortGuard> {
        let trial = state::registers(HYPERCALL_PAGE, 0, 0, PortGuard::Bitmap);
        self.fd.set_regs(&trial)?;
        let guard = loop {
            match self.run()? {
                Exit::Hypercall(_) => break PortGuard::Bitmap,
                Exit::End(_) => break PortGuard::Open,
                Exit::Interrupted => {}
            }
        };
        // KVM still has to step over the instruction that left: let it do so before the registers are set.
        self.fd.set_kvm_immediate_exit(1);
        let _interrupted = self.run()?;
        self.fd.set_kvm_immediate_exit(0);
        Ok(guard)
    }

    /// Runs the guest until it wants something.
    ///
    /// # Errors
    /// The host cannot run the guest, for instance because it has no memory left.
    pub(super) fn run(&mut self) -> io::Result<Exit> {
        let end = match self.fd.run() {
            Ok(VcpuExit::IoOut(port, &[_])) => return self.port_written(port),
            Ok(VcpuExit::IoOut(port, _) | VcpuExit::IoIn(port, _)) => End::PortAccess(port),
            Ok(VcpuExit::Intr) => return Ok(Exit::Interrupted),
            Err(e) if e.errno() == libc::EINTR => return Ok(Exit::Interrupted),
            Ok(VcpuExit::Shutdown) => End::Dead("the processor shut down".into()),
            Ok(other) => End::Dead(format!("KVM stopped it: {other:?}")),
            Err(e) => return Err(e.into()),
        };
        Ok(Exit::End(end))
    }

    fn port_written(&self, port: u16) -> io::Result<Exit> {
        if let Some(call) = ports::hypercall_of(port) {
            return Ok(Exit::Hypercall(call));
        }
        let end = match port == u16::from(ports::FAULT_PORT) {
            true => self.fault()?,
            false => End::PortAccess(port),
        };
        Ok(Exit::End(end))
    }

    /// The general registers at the last exit. At a hypercall, RIP is at the `out` on VT-x and AMD-V
    /// and behind it on software KVM.
    pub(super) fn registers(&self) -> kvm_regs {
        self.fd.sync_regs().regs
    }

    /// Sets what the hypercall returns. RIP stays: KVM itself steps over the `out` at the next entry.
    pub(super) fn set_result(&mut self, result: u64) {
        self.fd.sync_regs_mut().regs.rax = result;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// CR2 and the bases of FS and GS at the last exit.
    ///
    /// # Errors
    /// KVM does not give them.
    pub(super) fn system_registers(&self) -> io::Result<kvm_sregs> {
        Ok(self.fd.get_sregs()?)
    }

    /// The byte that makes the next entry return at once, for a signal handler to set. It stays
    /// valid as long as the vCPU.
    pub(super) fn immediate_exit(&mut self) -> *mut u8 {
        &raw mut self.fd.get_kvm_run().immediate_exit
    }

    /// Whether somebody used [`Vcpu::immediate_exit`].
    pub(super) fn must_stop(&mut self) -> bool {
        // SAFETY: the pointer is that of a field of this vCPU; volatile because a signal handler writes it.
        unsafe { self.immediate_exit().read_volatile() != 0 }
    }

    /// A stub reports an exception - or the guest wrote to the stubs' port itself.
    fn fault(&self) -> io::Result<End> {
        let rsp = self.registers().rsp;
        let in_stub = self.system_registers()?.cs.dpl == 0;
        let Some(start) = system::fault_stack_offset(rsp).filter(|_| in_stub) else {
            return Ok(End::PortAccess(u16::from(ports::FAULT_PORT)));
        };
        let count = to_usize(system::FAULT_STACK_TOP - rsp) / 8;
        let stack = self.system.as_volatile_slice();
        let word = |i: usize| stack.read_obj::<u64>(start + 8 * i).map_err(io::Error::other);
        let words = (0..count).map(word).collect::<io::Result<Vec<_>>>()?;
        let damaged = || End::Dead("its exception frame is damaged".into());
        Ok(Fault::decode(&words).map_or_else(damaged, End::Fault))
    }
}

fn system_memory(image: &[u8]) -> io::Result<MmapRegion> {
    let len = image.len().next_multiple_of(to_usize(PAGE_SIZE));
    let memory = MmapRegion::new(len).map_err(io::Error::other)?;
    memory.as_volatile_slice().write_slice(image, 0).map_err(io::Error::other)?;
    Ok(memory)
}

/// Sets what the guest never changes; returns its control and segment registers.
fn set_up(kvm: &Kvm, fd: &mut VcpuFd) -> io::Result<kvm_sregs> {
    let features = cpuid::filter(kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?.as_slice());
    let cpuid = CpuId::from_entries(&features).map_err(|e| io::Error::other(format!("{e:?}")))?;
    fd.set_cpuid2(&cpuid)?;
    let user = state::system_registers(fd.get_sregs()?, &features);
    fd.set_sregs(&user)?;
    if let Some(xcrs) = state::extended_control(&features) {
        fd.set_xcrs(&xcrs)?;
    }
    fd.set_msrs(&state::model_specific().ok_or(io::ErrorKind::OutOfMemory)?)?;
    fd.set_fpu(&state::floating_point())?;
    tsc::follow_host(fd)?;
    fd.set_sync_valid_reg(SyncReg::Register);
    Ok(user)
}
