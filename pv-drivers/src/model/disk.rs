//! A disk in memory that serves the block protocol as the specification says.
use super::{Arena, ArenaRing, DeviceChain, DeviceQueue};
use paravane_abi::device::SECTOR_SIZE;
use std::vec::Vec;

/// A disk in memory.
#[derive(Debug)]
pub struct Disk {
    arena: Arena,
    queue: DeviceQueue<ArenaRing>,
    /// What is on the disk.
    pub content: Vec<u8>,
    /// Number of flushes served.
    pub flush_count: usize,
    /// If set, the status of every request, none of which is served.
    pub forced_status: Option<u8>,
}

impl Disk {
    /// A zeroed disk of `sectors` sectors behind `queue`.
    #[must_use]
    pub fn new(arena: &Arena, queue: DeviceQueue<ArenaRing>, sectors: u64) -> Self {
        let len = usize::try_from(sectors * SECTOR_SIZE).unwrap_or(0);
        let content = std::vec![0; len];
        Self { arena: arena.clone(), queue, content, flush_count: 0, forced_status: None }
    }

    /// The queue that the disk serves.
    pub fn queue(&mut self) -> &mut DeviceQueue<ArenaRing> {
        &mut self.queue
    }

    /// Serves everything published. Returns whether the driver wants an event.
    pub fn serve(&mut self) -> bool {
        loop {
            while let Some(chain) = self.queue.take() {
                let written = self.serve_chain(&chain);
                self.queue.finish(chain.head, written);
            }
            if !self.queue.enable_notifications() {
                return self.queue.wants_event();
            }
        }
    }

    /// Serves one chain. Returns how many bytes of it were written.
    ///
    /// # Panics
    /// If the driver broke a rule of the protocol.
    pub fn serve_chain(&mut self, chain: &DeviceChain) -> u32 {
        let (header_at, header_len) = chain.readable[0];
        let header = self.arena.read(header_at, header_len as usize);
        assert_eq!(header.len(), 16, "the header has 16 bytes");
        let (&(status_at, status_len), data) = chain.writable.split_last().expect("a status");
        assert_eq!(status_len, 1, "the status has one byte");
        let kind = u32::from_le_bytes(header[..4].try_into().expect("4 bytes"));
        let sector = u64::from_le_bytes(header[8..].try_into().expect("8 bytes"));
        let status = match self.forced_status {
            Some(status) => status,
            None => self.execute(kind, sector, &chain.readable[1..], data),
        };
        self.arena.write(status_at, &[status]);
        chain.writable_len()
    }

    fn execute(
        &mut self,
        kind: u32,
        sector: u64,
        readable: &[(u64, u32)],
        writable: &[(u64, u32)],
    ) -> u8 {
        let at = usize::try_from(sector * SECTOR_SIZE).expect("64 bits");
        match (kind, readable, writable) {
            (0, [], &[(address, len)]) => {
                self.arena.write(address, &self.content[at..][..len as usize]);
            }
            (1, &[(address, len)], []) => {
                let data = self.arena.read(address, len as usize);
                self.content[at..][..data.len()].copy_from_slice(&data);
            }
            (4, [], []) => self.flush_count += 1,
            (11, &[(address, 16)], []) => self.discard(&self.arena.read(address, 16)),
            _ => return 2,
        }
        0
    }

    fn discard(&mut self, segment: &[u8]) {
        let sector = u64::from_le_bytes(segment[..8].try_into().expect("8 bytes"));
        let count = u32::from_le_bytes(segment[8..12].try_into().expect("4 bytes"));
        let bytes = |sectors: u64| usize::try_from(sectors * SECTOR_SIZE).expect("64 bits");
        self.content[bytes(sector)..][..bytes(u64::from(count))].fill(0);
    }
}
