//! What a PVH loader tells (Xen, `include/public/arch-x86/hvm/start_info.h`).
use alloc::string::String;
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First four bytes of the start info: "xEn3" with bit 7 of the "E" set.
const MAGIC: u32 = 0x336e_c578;

/// The version that this code knows. Version 0 has no memory map.
const VERSION: u32 = 1;

/// Most entries of the memory map that are looked at.
const ENTRIES_MAX: u32 = 128;

/// Longest command line that is looked at, bytes.
const COMMAND_LINE_LEN_MAX: usize = 4096;

/// Type of a memory map entry: usable RAM.
const RAM: u32 = 1;

/// Memory by physical address.
pub trait PhysicalMemory {
    /// Fills `buffer` from `address`; false if that cannot be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;
}

/// What the loader tells, copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The memory map.
    pub memory: Vec<Area>,
    /// The command line; what is not UTF-8 in it is replaced.
    pub command_line: String,
}

/// An area of physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Physical address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Whether it is RAM that can be used.
    pub is_ram: bool,
}

/// Why a loader is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PvhError {
    /// No start info where the loader says.
    #[error("the loader gave no PVH start info: the bundle has to be started by a PVH loader")]
    Magic,
    /// A version that this code does not know.
    #[error("the loader's PVH start info has version {0}; this loader knows version 1 only")]
    Version(u32),
    /// No memory map, an unreasonable one, or addresses that cannot be read.
    #[error("the loader's PVH start info has no usable memory map")]
    MemoryMap,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<StartInfo>() == 56);
const _: () = assert!(size_of::<Entry>() == 24);

impl Told {
    /// Reads the start info at physical address `address`.
    ///
    /// # Errors
    /// It is not a start info that this code knows.
    pub fn read(memory: &impl PhysicalMemory, address: u64) -> Result<Self, PvhError> {
        let info: StartInfo = read(memory, address).ok_or(PvhError::Magic)?;
        if info.magic != MAGIC {
            return Err(PvhError::Magic);
        }
        if info.version != VERSION {
            return Err(PvhError::Version(info.version));
        }
        let count = info.memory_map_entries;
        if !(1..=ENTRIES_MAX).contains(&count) {
            return Err(PvhError::MemoryMap);
        }
        let area = |index| {
            let at = info.memory_map.checked_add(u64::from(index) * size_of::<Entry>() as u64)?;
            let entry: Entry = read(memory, at)?;
            // An area that wraps around is none.
            let len = entry.address.checked_add(entry.size).map_or(0, |_| entry.size);
            Some(Area { start: entry.address, len, is_ram: entry.kind == RAM })
        };
        let areas: Option<_> = (0..count).map(area).collect();
        Ok(Self {
            memory: areas.ok_or(PvhError::MemoryMap)?,
            command_line: command_line(memory, info.command_line),
        })
    }
}

fn read<T: FromBytes + IntoBytes>(memory: &impl PhysicalMemory, address: u64) -> Option<T> {
    let mut value = T::new_zeroed();
    memory.read(address, value.as_mut_bytes()).then_some(value)
}

/// The NUL-terminated text at `address`; 0 stands for none.
fn command_line(memory: &impl PhysicalMemory, address: u64) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while address != 0 && bytes.len() < COMMAND_LINE_LEN_MAX {
        let at = address.checked_add(bytes.len() as u64);
        if !at.is_some_and(|at| memory.read(at, &mut byte)) || byte == [0] {
            break;
        }
        bytes.extend(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Memory(Vec<u8>);

    impl PhysicalMemory for Memory {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let start = usize::try_from(address).unwrap();
            let bytes = start.checked_add(buffer.len()).and_then(|end| self.0.get(start..end));
            bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
        }
    }

    fn info() -> StartInfo {
        StartInfo {
            magic: MAGIC,
            version: 1,
            flags: 0,
            module_count: 0,
            modules: 0,
            command_line: 128,
            rsdp: 0,
            memory_map: 64,
            memory_map_entries: 2,
            reserved: 0,
        }
    }

    fn memory(info: StartInfo) -> Memory {
        let mut bytes = vec![0; 256];
        bytes[..56].copy_from_slice(info.as_bytes());
        let ram = Entry { address: 0, size: 0x9fc00, kind: 1, reserved: 0 };
        let wraps = Entry { address: 1 << 63, size: 1 << 63, kind: 2, reserved: 0 };
        bytes[64..88].copy_from_slice(ram.as_bytes());
        bytes[88..112].copy_from_slice(wraps.as_bytes());
        bytes[128..140].copy_from_slice(b"hello=1 \xff b\0");
        Memory(bytes)
    }

    #[test]
    fn a_start_info_is_read() {
        let told = Told::read(&memory(info()), 0).unwrap();
        assert_eq!(told.command_line, "hello=1 \u{fffd} b");
        let ram = Area { start: 0, len: 0x9fc00, is_ram: true };
        assert_eq!(told.memory, [ram, Area { start: 1 << 63, len: 0, is_ram: false }]);
    }

    #[test]
    fn each_rule_refuses() {
        let check = |change: fn(&mut StartInfo), expect| {
            let mut info = info();
            change(&mut info);
            assert_eq!(Told::read(&memory(info), 0), Err(expect));
        };
        check(|i| i.magic = 1, PvhError::Magic);
        check(|i| i.version = 0, PvhError::Version(0));
        check(|i| i.version = 7, PvhError::Version(7));
        check(|i| i.memory_map_entries = 0, PvhError::MemoryMap);
        check(|i| i.memory_map_entries = 129, PvhError::MemoryMap);
        check(|i| i.memory_map = 1 << 20, PvhError::MemoryMap);
        check(|i| i.memory_map = u64::MAX - 10, PvhError::MemoryMap);
        assert_eq!(Told::read(&Memory(vec![0; 8]), 0), Err(PvhError::Magic));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut memory = memory(info());
            memory.0[8..][..bytes.len()].copy_from_slice(&bytes);
            let _ = Told::read(&memory, 0);
        }
    }
}
