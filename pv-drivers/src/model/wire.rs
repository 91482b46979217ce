//! A network device whose other end is the test: frames go in and come out as bytes, each with its
//! 12-byte header.
use super::{Arena, ArenaRing, DeviceChain, DeviceQueue};
use std::vec::Vec;

/// A network device.
#[derive(Debug)]
pub struct Wire {
    arena: Arena,
    /// The driver's receive queue, seen from the device.
    pub receive: DeviceQueue<ArenaRing>,
    /// The driver's transmit queue, seen from the device.
    pub transmit: DeviceQueue<ArenaRing>,
    /// Buffers of the receive queue in which nothing was delivered yet.
    taken: Vec<DeviceChain>,
}

impl Wire {
    /// A device behind these two queues.
    #[must_use]
    pub fn new(
        arena: &Arena,
        receive: DeviceQueue<ArenaRing>,
        transmit: DeviceQueue<ArenaRing>,
    ) -> Self {
        Self { arena: arena.clone(), receive, transmit, taken: Vec::new() }
    }

    /// Hands the driver a header and a frame, in as many buffers as they need; the field
    /// `num_buffers` is filled in. Returns whether there were enough buffers.
    pub fn deliver(&mut self, header: [u8; 10], frame: &[u8]) -> bool {
        let mut bytes = header.to_vec();
        bytes.extend([0, 0]);
        bytes.extend(frame);
        // Those taken in vain are there for the next attempt.
        let (mut room, mut needed) = (0, 0);
        while room < bytes.len() {
            if needed == self.taken.len() {
                let Some(chain) = self.receive.take() else { return false };
                self.taken.push(chain);
            }
            room += self.taken[needed].writable_len() as usize;
            needed += 1;
        }
        let chains: Vec<_> = self.taken.drain(..needed).collect();
        let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
        bytes[10..12].copy_from_slice(&count.to_le_bytes());
        let mut rest = &bytes[..];
        for chain in chains {
            let &[(address, len)] = &chain.writable[..] else { return false };
            let (part, behind) = rest.split_at(rest.len().min(len as usize));
            self.arena.write(address, part);
            self.receive.finish(chain.head, u32::try_from(part.len()).unwrap_or(0));
            rest = behind;
        }
        true
    }

    /// The next frame that the driver sent, with its header.
    pub fn next_sent(&mut self) -> Option<Vec<u8>> {
        let chain = self.transmit.take()?;
        let read = |&(address, len): &(u64, u32)| self.arena.read(address, len as usize);
        let bytes = chain.readable.iter().flat_map(read).collect();
        self.transmit.finish(chain.head, 0);
        Some(bytes)
    }
}
