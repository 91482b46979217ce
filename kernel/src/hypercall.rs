//! The hypercalls as functions. The one place where the guest calls its host.
//!
//! Each wrapper hands the host only memory that the wrapper's caller lent it, so all are safe.
use crate::state::kernel;
use crate::to_usize;
use core::cell::Cell;
use paravane_abi::device::Attach;
use paravane_abi::hypercall::{ENTROPY_LEN_MAX, Error, Hypercall, SLOT_SIZE, TEXT_LEN_MAX};
use paravane_abi::layout::HYPERCALL_PAGE;
use zerocopy::IntoBytes;

/// Where the hypercall page is.
pub(crate) struct State {
    page: Cell<u64>,
}

impl State {
    /// The page is at the address that the contract promises until `boot` has read the start info, so
    /// that a refused start info can be reported.
    pub(crate) const fn new() -> Self {
        Self { page: Cell::new(HYPERCALL_PAGE) }
    }

    /// Takes the hypercall page at `page` into use.
    ///
    /// # Safety
    /// A hypercall page as the contract describes it is mapped at `page` for as long as the guest
    /// lives.
    pub(crate) unsafe fn set_page(&self, page: u64) {
        self.page.set(page);
    }
}

/// A slot of the hypercall page, entered as a function. It never unwinds in a guest; the fake host of
/// the tests ends a guest by unwinding.
type Slot = unsafe extern "C-unwind" fn(u64, u64, u64) -> i64;

/// Makes a hypercall.
///
/// # Safety
/// Memory that the arguments point to is valid for what `call` does with it.
unsafe fn call(call: Hypercall, a: u64, b: u64, c: u64) -> Result<u64, Error> {
    let address = kernel().hypercalls.page.get() + SLOT_SIZE * call as u64;
    // SAFETY: `State::new` and `State::set_page` hold the address of a hypercall page, whose slots
    // are functions of the System V calling convention with up to three integer arguments.
    let slot: Slot = unsafe {
        core::mem::transmute(core::ptr::with_exposed_provenance::<()>(to_usize(address)))
    };
    // SAFETY: by the caller, for the memory; the slot keeps what the calling convention keeps.
    Error::from_result(unsafe { slot(a, b, c) })
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// Writes text to the host's console, all of it unless the host refuses to take any.
pub(crate) fn console_write(mut text: &[u8]) {
    while !text.is_empty() {
        let part = &text[..text.len().min(to_usize(TEXT_LEN_MAX))];
        // SAFETY: the host only reads `part`, which is borrowed for the call.
        let taken =
            unsafe { call(Hypercall::ConsoleWrite, address(part.as_ptr()), part.len() as u64, 0) };
        match taken {
            Ok(taken) if taken > 0 => text = &text[part.len().min(to_usize(taken))..],
            _ => return,
        }
    }
}

/// Ends the domain with `status`.
pub(crate) fn exit(status: u8) -> ! {
    loop {
        // SAFETY: no memory is passed.
        let _ = unsafe { call(Hypercall::Exit, u64::from(status), 0, 0) };
    }
}

/// Ends the domain with a crash report that quotes `text`, of which the host takes the first
/// [`TEXT_LEN_MAX`] bytes.
pub(crate) fn panic(text: &str) -> ! {
    let len = text.len().min(to_usize(TEXT_LEN_MAX));
    loop {
        // SAFETY: the host only reads `text`, which is borrowed for the call.
        let _ = unsafe { call(Hypercall::Panic, address(text.as_ptr()), len as u64, 0) };
    }
}

/// Lets the devices work, and sleeps until one of them has news, a stop is requested or monotonic
/// time reaches `deadline_ns`. Returns the event mask.
pub(crate) fn wait(deadline_ns: u64) -> Result<u64, Error> {
    // SAFETY: no memory is passed. Devices write only to buffers that their drivers queued.
    unsafe { call(Hypercall::Wait, deadline_ns, 0, 0) }
}

/// Tells the host of new buffers in virtqueue `queue` of `device`.
pub(crate) fn notify(device: u32, queue: u16) -> Result<(), Error> {
    // SAFETY: no memory is passed. The device uses only buffers that the driver queued.
    unsafe { call(Hypercall::Notify, u64::from(device), u64::from(queue), 0) }.map(drop)
}

/// Hands the rings of a device to the host.
///
/// # Safety
/// The rings lie in memory that nothing but their driver uses while the guest lives.
pub(crate) unsafe fn attach(rings: &Attach) -> Result<(), Error> {
    let bytes = rings.as_bytes();
    // SAFETY: the host reads `bytes`, borrowed for the call; the rings are good by the caller.
    unsafe { call(Hypercall::Attach, address(bytes.as_ptr()), bytes.len() as u64, 0) }.map(drop)
}

/// Gives whole pages of RAM back to the host; they read as zeroes when touched next.
///
/// # Safety
/// Nothing relies on the contents of the `len` bytes at `ram_offset`.
pub(crate) unsafe fn release(ram_offset: u64, len: u64) -> Result<(), Error> {
    // SAFETY: by the caller, nobody misses what the pages held.
    unsafe { call(Hypercall::Release, ram_offset, len, 0) }.map(drop)
}

/// Fills `buffer` with random bytes of the host.
pub(crate) fn entropy(buffer: &mut [u8]) -> Result<(), Error> {
    for part in buffer.chunks_mut(to_usize(ENTROPY_LEN_MAX)) {
        let (pointer, len) = (address(part.as_mut_ptr()), part.len() as u64);
        // SAFETY: the host only writes `part`, which is borrowed mutably for the call.
        unsafe { call(Hypercall::Entropy, pointer, len, 0) }?;
    }
    Ok(())
}
