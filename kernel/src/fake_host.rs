//! A host for tests: it answers the hypercalls of a guest that runs on the test's own thread, with
//! virtual time and without a device. One thread is one guest; the same program on it does the same
//! every time.
//!
//! The guest is the kernel as it is, from [`crate::boot`] on: only the pages that a host provides are
//! made here.
use crate::state::Kernel;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use paravane_abi::hypercall::{DEADLINE_NEVER, ENTROPY_LEN_MAX, EVENT_STOP, Error, Hypercall};
use paravane_abi::layout::PAGE_SIZE;
use paravane_abi::start_info::{MAGIC, StartInfo};
use paravane_abi::time::{TimePage, TimeSnapshot};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::thread_local;
use zerocopy::FromZeros;

// The hypercall page: each slot adds its number as the fourth argument of `fake_host_call`.
core::arch::global_asm!(
    ".balign 4096",
    "fake_host_page:",
    ".set slot, 0",
    ".rept 16",
    ".balign 32",
    "mov ecx, slot",
    "jmp {call}",
    ".set slot, slot + 1",
    ".endr",
    call = sym fake_host_call,
);

unsafe extern "C" {
    #[link_name = "fake_host_page"]
    static PAGE: [u8; 512];
}

/// RAM of a simulated guest, bytes.
const RAM_SIZE: usize = 16 << 20;
/// RAM offset of the stack slots.
const STACK_BASE: u64 = 2 << 20;
const STACK_SIZE: u32 = 64 << 10;
const STACK_SLOTS: u32 = 3;

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The guest's program returned.
    Returned,
    /// `EXIT`.
    Exit(u8),
    /// `PANIC`.
    Panic(String),
}

/// What a host does to its guest, and what it saw of it.
pub(crate) struct FakeHost {
    time_page: Box<TimePage>,
    ram_base: u64,
    now_ns: u64,
    generation: u32,
    /// When a stop is requested, until the guest was told.
    stop_at_ns: Option<u64>,
    stop_told: bool,
    /// Changes the start info before the guest sees it.
    change: fn(&mut StartInfo),
    /// All that was written to the console.
    pub(crate) console: String,
    /// Number of `WAIT`s so far.
    pub(crate) waits: usize,
    /// Number of `ENTROPY`s so far.
    pub(crate) entropy_calls: u8,
    /// RAM offset and length of each `RELEASE`.
    pub(crate) released: Vec<(u64, u64)>,
}

thread_local! {
    static KERNEL: Cell<&'static Kernel> = Cell::new(Box::leak(Box::new(Kernel::new())));
    static HOST: RefCell<Option<FakeHost>> = const { RefCell::new(None) };
}

/// The kernel of this thread's guest.
pub(crate) fn kernel() -> &'static Kernel {
    KERNEL.get()
}

/// Looks at, or changes, the host of this thread's guest, from the guest's program.
pub(crate) fn with_host<T>(action: impl FnOnce(&mut FakeHost) -> T) -> T {
    HOST.with_borrow_mut(|host| action(host.as_mut().expect("a guest is running")))
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        Self {
            time_page: Box::default(),
            ram_base: map_ram(),
            now_ns: 0,
            generation: 1,
            stop_at_ns: None,
            stop_told: false,
            change: |_| {},
            console: String::new(),
            waits: 0,
            entropy_calls: 0,
            released: Vec::new(),
        }
    }

    /// Requests the guest to stop at `ns`.
    pub(crate) fn stop_at(mut self, ns: u64) -> Self {
        self.stop_at_ns = Some(ns);
        self
    }

    /// Hands the guest a start info with this change.
    pub(crate) fn with_start_info(mut self, change: fn(&mut StartInfo)) -> Self {
        self.change = change;
        self
    }

    /// Lets virtual time pass.
    pub(crate) fn advance(&mut self, ns: u64) {
        self.now_ns += ns;
        self.publish();
    }

    /// Tells the guest that it was cloned or restored.
    pub(crate) fn renew(&mut self) {
        self.generation += 1;
        self.publish();
    }

    /// The slope is 0, so time stands still between two publications.
    fn publish(&self) {
        self.time_page.publish(&TimeSnapshot {
            generation: self.generation,
            tsc_base: 0,
            monotonic_base_ns: self.now_ns,
            ns_per_tick: 0,
            wall_offset_ns: 1_700_000_000_000_000_000,
        });
    }

    /// Boots a guest with `arguments` on this thread, runs `program` in it, and returns how it
    /// ended and the host.
    pub(crate) fn run(self, arguments: &str, program: impl FnOnce()) -> (End, Self) {
        KERNEL.set(Box::leak(Box::new(Kernel::new())));
        self.publish();
        let mut info = self.start_info(arguments);
        (self.change)(&mut info);
        // SAFETY: the page stands for the one that a host maps at the address of the contract, which
        // the kernel relies on until it has read the start info.
        unsafe { kernel().hypercalls.set_page(info.hypercall_page) };
        HOST.set(Some(self));
        let body = AssertUnwindSafe(|| {
            // SAFETY: the kernel of this thread is new, and the host that `info` describes is
            // installed and stays so while the guest runs.
            unsafe { crate::boot(&raw const info) };
            program();
        });
        let end = match catch_unwind(body) {
            Ok(()) => End::Returned,
            Err(payload) => *payload.downcast().unwrap_or_else(|other| resume_unwind(other)),
        };
        (end, HOST.take().expect("the guest does not take its host away"))
    }

    fn start_info(&self, arguments: &str) -> StartInfo {
        let mut info = StartInfo::new_zeroed();
        info.magic = MAGIC;
        info.abi_version = paravane_abi::ABI_VERSION;
        info.size = u32::try_from(size_of::<StartInfo>()).expect("less than a page");
        info.ram_base = self.ram_base;
        info.ram_size = RAM_SIZE as u64;
        info.image_end = STACK_BASE;
        info.stack_base = STACK_BASE;
        info.stack_size = STACK_SIZE;
        info.stack_slots = STACK_SLOTS;
        info.hypercall_page = (&raw const PAGE).expose_provenance() as u64;
        info.time_page = (&raw const *self.time_page).expose_provenance() as u64;
        info.seed = [7; _];
        let line: String = arguments.split_whitespace().flat_map(|word| [word, "\0"]).collect();
        info.command_line[..line.len()].copy_from_slice(line.as_bytes());
        info.command_line_len = u32::try_from(line.len()).expect("a short line");
        info
    }

    fn call(&mut self, call: Hypercall, a: u64, b: u64) -> Result<u64, Error> {
        match call {
            Hypercall::ConsoleWrite => Ok(self.console_write(&bytes(a, b))),
            Hypercall::Wait => Ok(self.wait(a)),
            Hypercall::Release => self.release(a, b),
            Hypercall::Entropy => self.entropy(a, b),
            Hypercall::Notify | Hypercall::Attach => Err(Error::NoDevice),
            Hypercall::Exit | Hypercall::Panic => Err(Error::InvalidCall),
        }
    }

    /// Takes a little at a time, so that the guest has to come back for the rest.
    fn console_write(&mut self, text: &[u8]) -> u64 {
        let taken = &text[..text.len().min(1000)];
        self.console.push_str(&String::from_utf8_lossy(taken));
        taken.len() as u64
    }

    fn wait(&mut self, deadline_ns: u64) -> u64 {
        self.waits += 1;
        let until = deadline_ns.min(self.stop_at_ns.unwrap_or(DEADLINE_NEVER));
        assert_ne!(until, DEADLINE_NEVER, "the guest waits for something that never comes");
        self.now_ns = self.now_ns.max(until);
        self.publish();
        if self.stop_at_ns.take_if(|stop_at_ns| *stop_at_ns <= self.now_ns).is_some() {
            self.stop_told = true;
        }
        if self.stop_told { EVENT_STOP } else { 0 }
    }

    fn release(&mut self, ram_offset: u64, len: u64) -> Result<u64, Error> {
        let is_whole = ram_offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        if !is_whole || ram_offset + len > RAM_SIZE as u64 {
            return Err(Error::InvalidArgument);
        }
        self.released.push((ram_offset, len));
        let address = crate::to_usize(self.ram_base + ram_offset);
        let pages = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: the pages lie in RAM, and the guest says that it does not use them.
        unsafe { pages.write_bytes(0, crate::to_usize(len)) };
        Ok(0)
    }

    fn entropy(&mut self, address: u64, len: u64) -> Result<u64, Error> {
        if len > ENTROPY_LEN_MAX {
            return Err(Error::InvalidArgument);
        }
        self.entropy_calls += 1;
        let buffer = core::ptr::with_exposed_provenance_mut::<u8>(crate::to_usize(address));
        // SAFETY: the guest lends the buffer for the call.
        unsafe { buffer.write_bytes(self.entropy_calls, crate::to_usize(len)) };
        Ok(0)
    }
}

/// The bytes that a guest passes.
fn bytes(address: u64, len: u64) -> Vec<u8> {
    let start = core::ptr::with_exposed_provenance(crate::to_usize(address));
    // SAFETY: the guest lends the bytes for the call.
    unsafe { core::slice::from_raw_parts(start, crate::to_usize(len)) }.to_vec()
}

extern "C-unwind" fn fake_host_call(a: u64, b: u64, _c: u64, slot: u64) -> i64 {
    match Hypercall::from_raw(slot) {
        Some(Hypercall::Exit) => panic_any(End::Exit(u8::try_from(a).expect("a status"))),
        Some(Hypercall::Panic) => {
            let text = String::from_utf8(bytes(a, b)).expect("UTF-8");
            resume_unwind(Box::new(End::Panic(text)))
        }
        Some(call) => match with_host(|host| host.call(call, a, b)) {
            Ok(value) => value.cast_signed(),
            Err(error) => error.to_result(),
        },
        None => Error::InvalidCall.to_result(),
    }
}

/// RAM with guard pages below the stacks. It is never unmapped: an ended guest's fibers may have left
/// values on their stacks that are still reachable.
fn map_ram() -> u64 {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping.
    let ram = unsafe { libc::mmap(core::ptr::null_mut(), RAM_SIZE, prot, flags, -1, 0) };
    assert_ne!(ram, libc::MAP_FAILED);
    let base = ram.expose_provenance() as u64;
    for slot in 0..u64::from(STACK_SLOTS) {
        let guard = base + STACK_BASE + slot * u64::from(STACK_SIZE);
        let guard = core::ptr::with_exposed_provenance_mut(crate::to_usize(guard));
        // SAFETY: the page lies in the new mapping, where nothing is yet.
        let result = unsafe { libc::mprotect(guard, crate::to_usize(PAGE_SIZE), libc::PROT_NONE) };
        assert_eq!(result, 0);
    }
    base
}
