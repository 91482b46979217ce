//! Functions on PCI buses, among them virtio devices (4.1.4).
use super::{Core, Shared, shared};
use crate::virtio::Registers;
use crate::virtio::pci::{Address, Configuration};
use std::collections::HashMap;
use std::vec::Vec;

const COMMAND_MEMORY: u32 = 2;
const COMMAND_MASTER: u32 = 4;
const COMMAND_FIRMWARE: u32 = 0x107;
const STATUS_ERROR: u32 = 0x8000_0000;
const MSI_X: u8 = 0x11;
const NOTIFY_MULTIPLIER: u64 = 4;
/// Messages in the MSI-X table.
const MESSAGES: u16 = 3;

/// What lies in the memory of a virtio function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    Common,
    Notify,
    Isr,
    Device,
    Messages,
}

/// A structure: where a base address register puts it.
#[derive(Clone, Copy, Debug)]
struct Placed {
    structure: Structure,
    bar: u8,
    offset: u32,
    len: u32,
}

/// One function.
#[derive(Debug)]
pub(crate) struct Function {
    space: [u32; 64],
    /// Bits that the driver can change.
    writable: [u32; 64],
    placed: Vec<Placed>,
    capabilities_end: u8,
    pub(crate) core: Option<Shared<Core>>,
    /// Address, address, data and control of message 0.
    pub(crate) message: [u32; 4],
    /// Fault: no queue gets a vector.
    pub(crate) refuses_vectors: bool,
}

impl Function {
    /// A function without capabilities.
    pub(crate) fn plain(vendor: u16, device: u16) -> Self {
        let mut function = Self {
            space: [0; 64],
            writable: [0; 64],
            placed: Vec::new(),
            capabilities_end: 0x34,
            core: None,
            message: [0; 4],
            refuses_vectors: false,
        };
        function.space[0] = u32::from(device) << 16 | u32::from(vendor);
        // As firmware may leave it, with an error in the status register.
        function.space[1] = COMMAND_FIRMWARE | STATUS_ERROR;
        function.writable[1] = 0xffff;
        // Built-in self test: "capable".
        function.space[3] = 0x8000_0000;
        function
    }

    /// A bridge to another bus.
    pub(crate) fn bridge(secondary: u8) -> Self {
        let mut function = Self::plain(0x1b36, 0xc);
        function.space[3] |= 1 << 16;
        function.space[6] = u32::from(secondary) << 8;
        function
    }

    /// A virtio device as QEMU has it: registers in BAR 4, of 64 bits, messages in BAR 1, of 32.
    pub(crate) fn virtio(core: Core, memory: u64) -> Self {
        let mut function = Self::virtio_bare(core);
        function.add_bar(1, memory, 0x1000);
        function.add_bar(4, memory + 0x4000, 0x4000);
        function.add_messages(1, 0);
        function.add(Structure::Device, 4, 0x2000, 0x1000);
        function.add(Structure::Notify, 4, 0x3000, 0x1000);
        function.add(Structure::Isr, 4, 0x1000, 0x1000);
        function.add(Structure::Common, 4, 0, 0x1000);
        function
    }

    /// A virtio device without registers.
    pub(crate) fn virtio_bare(core: Core) -> Self {
        let mut function = Self::plain(0x1af4, 0x1040 + u16::try_from(core.id).unwrap());
        function.core = Some(shared(core));
        function
    }

    /// The device under its transitional ID, which says nothing: the subsystem does.
    pub(crate) fn transitional(mut self) -> Self {
        let id = self.core.as_ref().unwrap().lock().unwrap().id;
        self.space[0] = 0x1000_1af4;
        self.space[0xb] = id << 16 | 0x1af4;
        self
    }

    pub(crate) fn multifunction(mut self) -> Self {
        self.space[3] |= 0x80 << 16;
        self
    }

    /// A base address register, of 64 bits for even numbers. `memory` 0 is not assigned.
    pub(crate) fn add_bar(&mut self, bar: u8, memory: u64, len: u64) {
        let index = 4 + usize::from(bar);
        let mask = !(len - 1);
        self.space[index] = (memory & 0xffff_ffff) as u32;
        self.writable[index] = (mask & 0xffff_ffff) as u32;
        if bar.is_multiple_of(2) {
            self.space[index] |= 0b1100;
            self.space[index + 1] = (memory >> 32) as u32;
            self.writable[index + 1] = (mask >> 32) as u32;
        }
    }

    /// A base address register for I/O ports.
    pub(crate) fn add_io_bar(&mut self, bar: u8) {
        self.space[4 + usize::from(bar)] = 0xc001;
    }

    /// Appends a capability to the list; `words` begins with its ID. Gives its offset.
    pub(crate) fn add_capability(&mut self, words: &[u32]) -> u8 {
        let previous = self.capabilities_end;
        let offset = if previous == 0x34 { 0x40 } else { previous + 20 };
        self.set_byte(if previous == 0x34 { 0x34 } else { previous + 1 }, offset);
        self.space[1] |= 1 << 20;
        let index = usize::from(offset / 4);
        self.space[index..index + words.len()].copy_from_slice(words);
        self.capabilities_end = offset;
        offset
    }

    /// Adds a structure of virtio.
    pub(crate) fn add(&mut self, structure: Structure, bar: u8, offset: u32, len: u32) {
        let kind = structure as u32 + 1;
        self.add_capability(&[kind << 24 | 20 << 16 | 9, u32::from(bar), offset, len, 4]);
        if bar < 6 {
            self.placed.push(Placed { structure, bar, offset, len });
        }
    }

    /// Adds MSI-X, with all messages masked.
    pub(crate) fn add_messages(&mut self, bar: u8, offset: u32) {
        let control = 1 << 30 | u32::from(MESSAGES - 1) << 16 | u32::from(MSI_X);
        let at = self.add_capability(&[control, offset | u32::from(bar), offset | u32::from(bar)]);
        self.writable[usize::from(at / 4)] = 0xc000_0000;
        self.placed.push(Placed { structure: Structure::Messages, bar, offset, len: 16 });
    }

    /// Changes a byte of the configuration space, as a hostile machine might.
    pub(crate) fn set_byte(&mut self, offset: u8, value: u8) {
        let word = &mut self.space[usize::from(offset / 4)];
        let mut bytes = word.to_le_bytes();
        bytes[usize::from(offset % 4)] = value;
        *word = u32::from_le_bytes(bytes);
    }

    fn command(&self, bit: u32) -> bool {
        self.space[1] & bit != 0
    }

    pub(crate) fn messages_enabled(&self) -> bool {
        let found = (0x10..0x40).find(|index| self.space[*index] & 0xff == u32::from(MSI_X));
        found.is_some_and(|index| self.space[index] >> 30 == 0b10)
    }

    /// The command register has what firmware set, and so what a device needs.
    pub(crate) fn is_enabled(&self) -> bool {
        self.space[1] & 0xffff == COMMAND_FIRMWARE
    }

    /// Address and length of a base address register that decodes memory.
    pub(crate) fn memory(&self, bar: u8) -> (u64, u64) {
        let index = 4 + usize::from(bar);
        let has_high = self.space[index] & 0b110 == 0b100;
        let join = |words: &[u32; 64], none: u32| {
            let high = if has_high { words[index + 1] } else { none };
            u64::from(high) << 32 | u64::from(words[index] & !0xf)
        };
        let mask = join(&self.writable, u32::MAX);
        (join(&self.space, 0), mask.wrapping_neg())
    }

    fn write(&mut self, index: usize, value: u32) {
        if (4..10).contains(&index) {
            assert!(!self.command(COMMAND_MEMORY), "memory is moved while it is decoded");
        }
        if index == 1 {
            assert_eq!(value >> 16, 0, "the status register is cleared");
        }
        let writable = self.writable[index];
        self.space[index] = self.space[index] & !writable | value & writable;
    }

    fn core(&self) -> std::sync::MutexGuard<'_, Core> {
        self.core.as_ref().unwrap().lock().unwrap()
    }
}

/// All buses of a machine.
#[derive(Clone, Default)]
pub(crate) struct Bus {
    functions: HashMap<Address, Shared<Function>>,
}

impl Bus {
    /// Adds a function. Gives a handle on it.
    pub(crate) fn add(
        &mut self,
        (bus, device, function): (u8, u8, u8),
        what: Function,
    ) -> Shared<Function> {
        let what = shared(what);
        self.functions.insert(Address { bus, device, function }, what.clone());
        what
    }

    pub(super) fn map(&self, physical: u64, len: u64) -> Option<Box<dyn Registers>> {
        let window = |function: &Shared<Function>| {
            let known = function.lock().unwrap();
            let (placed, start) = known.placed.iter().find_map(|placed| {
                let memory = known.memory(placed.bar).0 + u64::from(placed.offset);
                let start = physical.checked_sub(memory)?;
                (start + len <= u64::from(placed.len)).then_some((placed, start))
            })?;
            Some(PciWindow { function: function.clone(), structure: placed.structure, start, len })
        };
        let window = self.functions.values().find_map(window)?;
        Some(Box::new(window))
    }
}

impl Configuration for Bus {
    fn read(&mut self, address: Address, offset: u8) -> u32 {
        assert_eq!(offset % 4, 0, "misaligned access to a configuration space");
        let function = self.functions.get(&address);
        function
            .map_or(u32::MAX, |function| function.lock().unwrap().space[usize::from(offset / 4)])
    }

    fn write(&mut self, address: Address, offset: u8, value: u32) {
        assert_eq!(offset % 4, 0, "misaligned access to a configuration space");
        self.functions[&address].lock().unwrap().write(usize::from(offset / 4), value);
    }
}

/// Part of a structure, as it was mapped.
#[derive(Debug)]
struct PciWindow {
    function: Shared<Function>,
    structure: Structure,
    start: u64,
    len: u64,
}

impl PciWindow {
    /// An access of `len` bytes: to which structure, and where in it.
    fn at(&self, offset: u64, len: u64) -> (Structure, u64) {
        assert!(offset + len <= self.len, "an access outside the window");
        assert!(self.function.lock().unwrap().command(COMMAND_MEMORY), "memory is not decoded");
        (self.structure, self.start + offset)
    }

    fn read_config<const LEN: usize>(&self, offset: u64) -> [u8; LEN] {
        self.function.lock().unwrap().core().read_config(offset)
    }
}

impl Registers for PciWindow {
    fn read_u8(&self, offset: u64) -> u8 {
        match self.at(offset, 1) {
            (Structure::Common, 20) => self.function.lock().unwrap().core().status(),
            (Structure::Common, 21) => {
                self.function.lock().unwrap().core().generation.try_into().unwrap()
            }
            (Structure::Device, field) => u8::from_le_bytes(self.read_config(field)),
            other => panic!("8 bits of {other:?} are read"),
        }
    }

    fn read_u16(&self, offset: u64) -> u16 {
        let place = self.at(offset, 2);
        if let (Structure::Device, field) = place {
            return u16::from_le_bytes(self.read_config(field));
        }
        let function = self.function.lock().unwrap();
        let core = function.core();
        match place {
            (Structure::Common, 24) => core.queue_size_max(),
            (Structure::Common, 26) => core.selected().vector,
            (Structure::Common, 28) => u16::from(core.selected().is_ready),
            (Structure::Common, 30) => core.queue * 2,
            other => panic!("16 bits of {other:?} are read"),
        }
    }

    fn read_u32(&self, offset: u64) -> u32 {
        match self.at(offset, 4) {
            (Structure::Common, 4) => self.function.lock().unwrap().core().features(),
            (Structure::Device, field) => u32::from_le_bytes(self.read_config(field)),
            other => panic!("32 bits of {other:?} are read"),
        }
    }

    fn write_u8(&self, offset: u64, value: u8) {
        assert_eq!(self.at(offset, 1), (Structure::Common, 20));
        let function = self.function.lock().unwrap();
        if value & 4 != 0 {
            assert!(function.command(COMMAND_MASTER) && function.messages_enabled());
            assert_eq!(function.core().config_vector, 0, "nobody would hear of a failure");
        }
        function.core().set_status(value);
    }

    fn write_u16(&self, offset: u64, value: u16) {
        let place = self.at(offset, 2);
        let function = self.function.lock().unwrap();
        let mut core = function.core();
        match place {
            (Structure::Common, 16) => core.config_vector = value,
            (Structure::Common, 22) => core.queue = value,
            (Structure::Common, 24) => core.set_up().size = value,
            (Structure::Common, 26) => {
                let refused = function.refuses_vectors || value >= MESSAGES;
                core.set_up().vector = if refused { 0xffff } else { value };
            }
            (Structure::Common, 28) => core.set_ready(u32::from(value)),
            (Structure::Notify, place) => {
                assert_eq!(place, u64::from(value) * 2 * NOTIFY_MULTIPLIER, "queue {value}");
                core.notify(value);
            }
            other => panic!("16 bits of {other:?} are written"),
        }
    }

    fn write_u32(&self, offset: u64, value: u32) {
        let place = self.at(offset, 4);
        let mut function = self.function.lock().unwrap();
        if let (Structure::Messages, field) = place {
            assert_eq!(field % 4, 0, "misaligned");
            function.message[usize::try_from(field / 4).unwrap()] = value;
            return;
        }
        let mut core = function.core();
        match place {
            (Structure::Common, 0) => core.device_half = value,
            (Structure::Common, 8) => core.driver_half = value,
            (Structure::Common, 12) => core.accept(value),
            (Structure::Common, part @ (32 | 36)) => core.set_address(0, part, value),
            (Structure::Common, part @ (40 | 44)) => core.set_address(1, part, value),
            (Structure::Common, part @ (48 | 52)) => core.set_address(2, part, value),
            other => panic!("32 bits of {other:?} are written"),
        }
    }
}
