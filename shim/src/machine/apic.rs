//! The local APIC with its timer, and the I/O APIC (Intel SDM volume 3, chapter 11; Intel 82093AA).
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::ApicBase;
use x86_64::registers::model_specific::ApicBaseFlags;

use super::interrupts::{SPURIOUS_VECTOR, TIMER_VECTOR};
use super::paging::{PagingError, Tables, Use};

const IO_APIC_BASE: u64 = 0xfec0_0000;
const WINDOW_LEN: u64 = 4096;

/// Registers of the local APIC.
const ID: usize = 0x20;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const TIMER: usize = 0x320;
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

const MASKED: u32 = 1 << 16;
const ENABLED: u32 = 1 << 8;
const DIVIDE_BY_16: u32 = 0b0011;

/// Where the interrupt stubs announce the end of an interrupt; 0 before there is a local APIC.
pub(super) static END_OF_INTERRUPT_REGISTER: AtomicU64 = AtomicU64::new(0);

/// Interrupts cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApicError {
    /// In a mode without registers in memory.
    #[error(
        "the local APIC is in x2APIC mode, or switched off, which this loader does not support"
    )]
    Mode,
    /// Two devices on one line could not be told apart.
    #[error("two devices share the interrupt line {0}, which this loader does not support")]
    Shared(u32),
    /// No such input.
    #[error("the I/O APIC has no input for interrupt line {0}")]
    Line(u32),
    /// The registers cannot be mapped.
    #[error(transparent)]
    Paging(#[from] PagingError),
}

/// The interrupt controllers.
#[derive(Debug)]
pub struct Apic {
    local: NonNull<u8>,
    io: NonNull<u8>,
}

impl Apic {
    /// Switches the local APIC on, its timer masked, and every other source of interrupts off.
    ///
    /// # Errors
    /// The registers cannot be reached.
    pub fn new(tables: &mut Tables) -> Result<Self, ApicError> {
        let (base, flags) = ApicBase::read();
        if !flags.contains(ApicBaseFlags::LAPIC_ENABLE)
            || flags.contains(ApicBaseFlags::X2APIC_ENABLE)
        {
            return Err(ApicError::Mode);
        }
        let base = base.start_address().as_u64();
        let local = tables.map_physical(base, WINDOW_LEN, Use::Device)?;
        let io = tables.map_physical(IO_APIC_BASE, WINDOW_LEN, Use::Device)?;
        let apic = Self { local, io };
        silence_legacy();
        for line in 0..apic.line_count() {
            apic.write_io(entry_register(line), MASKED);
        }
        apic.write(LINT0, MASKED);
        apic.write(LINT1, MASKED);
        apic.write(TIMER_DIVIDE, DIVIDE_BY_16);
        apic.write(TIMER, MASKED | u32::from(TIMER_VECTOR));
        apic.write(SPURIOUS, ENABLED | u32::from(SPURIOUS_VECTOR));
        let end = local.as_ptr() as u64 + END_OF_INTERRUPT as u64;
        END_OF_INTERRUPT_REGISTER.store(end, Ordering::Relaxed);
        Ok(apic)
    }

    /// Delivers line `line` as `vector`, once each time that it is raised.
    ///
    /// # Errors
    /// There is no such line, or it is delivered already.
    pub fn route_line(&self, line: u32, vector: u8) -> Result<(), ApicError> {
        if line >= self.line_count() {
            return Err(ApicError::Line(line));
        }
        if self.read_io(entry_register(line)) & MASKED == 0 {
            return Err(ApicError::Shared(line));
        }
        self.write_io(entry_register(line) + 1, self.id() << 24);
        self.write_io(entry_register(line), u32::from(vector));
        Ok(())
    }

    /// Address and data of the message that delivers `vector` to this processor (Intel SDM volume 3,
    /// 11.11).
    #[must_use]
    pub fn message(&self, vector: u8) -> (u64, u32) {
        (0xfee0_0000 | u64::from(self.id()) << 12, u32::from(vector))
    }

    /// Starts the timer: [`TIMER_VECTOR`] comes after `ticks`, once.
    pub fn start_timer(&self, ticks: u32) {
        self.write(TIMER, u32::from(TIMER_VECTOR));
        self.write(TIMER_INITIAL, ticks);
    }

    /// Starts the timer from its highest value without an interrupt, for measuring.
    pub fn start_counting(&self) {
        self.write(TIMER, MASKED | u32::from(TIMER_VECTOR));
        self.write(TIMER_INITIAL, u32::MAX);
    }

    /// Ticks since [`Apic::start_counting`].
    #[must_use]
    pub fn counted(&self) -> u32 {
        u32::MAX - self.read(TIMER_CURRENT)
    }

    fn id(&self) -> u32 {
        self.read(ID) >> 24
    }

    fn line_count(&self) -> u32 {
        const VERSION: u32 = 1;
        (self.read_io(VERSION) >> 16 & 0xff) + 1
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: a register within the mapped window.
        unsafe { self.local.byte_add(register).cast::<u32>().read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: a register within the mapped window; none of those used reaches memory.
        unsafe { self.local.byte_add(register).cast::<u32>().write_volatile(value) };
    }

    fn read_io(&self, index: u32) -> u32 {
        // SAFETY: the two registers of the I/O APIC: index and data.
        unsafe {
            self.io.cast::<u32>().write_volatile(index);
            self.io.byte_add(0x10).cast::<u32>().read_volatile()
        }
    }

    fn write_io(&self, index: u32, value: u32) {
        // SAFETY: as for reading.
        unsafe {
            self.io.cast::<u32>().write_volatile(index);
            self.io.byte_add(0x10).cast::<u32>().write_volatile(value);
        }
    }
}

/// The lower half of a line's redirection entry.
fn entry_register(line: u32) -> u32 {
    0x10 + 2 * line
}

/// Masks the two 8259 interrupt controllers, where there are any.
fn silence_legacy() {
    for port in [0x21_u16, 0xa1] {
        // SAFETY: the interrupt mask registers.
        unsafe { Port::new(port).write(0xff_u8) };
    }
}
