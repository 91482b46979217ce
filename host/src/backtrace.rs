//! The guest's call stack, by frame pointers.
use crate::access::Access;
use crate::ending::Registers;
use crate::space::AddressSpace;

/// Most addresses of a call stack that are looked at.
pub const FRAMES_MAX: usize = 64;

/// Addresses of a call stack, innermost first. Lives on the stack: a fault handler can use it.
#[derive(Debug)]
pub struct Frames {
    addresses: [u64; FRAMES_MAX],
    count: usize,
}

impl Frames {
    /// The addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.addresses[..self.count]
    }

    fn push(&mut self, address: u64) {
        if let Some(slot) = self.addresses.get_mut(self.count) {
            *slot = address;
            self.count += 1;
        }
    }
}

/// Walks the call stack of a guest in state `registers`: the instruction pointer, then the return
/// address of every frame, as long as frame pointers lie in readable RAM and rise. `load` reads the eight
/// bytes at a RAM offset.
pub fn backtrace(
    space: &AddressSpace,
    registers: &Registers,
    load: impl Fn(u64) -> Option<u64>,
) -> Frames {
    let read = |address| load(space.check(address, 8, Access::can_read)?);
    let mut frames = Frames { addresses: [0; FRAMES_MAX], count: 0 };
    frames.push(registers.rip);
    if !space.access(registers.rip).can_execute() {
        // A call through a bad pointer: the caller's address is on top of the stack.
        if let Some(caller) = read(registers.rsp) {
            frames.push(caller);
        }
    }
    let mut frame = registers.rbp;
    while frames.count < FRAMES_MAX {
        let saved = read(frame);
        let caller = frame.checked_add(8).and_then(read);
        let (Some(saved), Some(caller)) = (saved, caller) else { break };
        if caller == 0 {
            break;
        }
        frames.push(caller);
        if saved <= frame {
            break;
        }
        frame = saved;
    }
    frames
}
