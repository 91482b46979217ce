//! COM1, a 16550 UART: the console, the line for reports, and where the operator can ask for an end.
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use x86_64::instructions::port::Port;

const BASE: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

/// Line status: a byte was received; the transmitter takes a byte.
const RECEIVED: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// Bytes that an empty transmitter takes at once.
const FIFO_LEN: usize = 16;

/// Bytes that are read at most while nobody asks for an end: a port without a UART reads as ones for ever.
const BYTES_MAX: usize = 64;

/// How often the line status is looked at for a free transmitter: a port without a UART must not hang the machine.
const PATIENCE: u32 = 1 << 20;

/// Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// The interrupt line of COM1.
pub const IRQ: u32 = 4;

fn write_register(port: u16, value: u8) {
    // SAFETY: a register of the UART; none of them reaches memory.
    unsafe { Port::new(port).write(value) };
}

fn read_register(port: u16) -> u8 {
    // SAFETY: as for writing; the reads used here at most take a received byte.
    unsafe { Port::new(port).read() }
}

/// Sets the line to 115200 baud, 8N1, without interrupts.
pub fn start() {
    write_register(INTERRUPT_ENABLE, 0);
    write_register(LINE_CONTROL, 0x80);
    write_register(BASE, 1);
    write_register(INTERRUPT_ENABLE, 0);
    write_register(LINE_CONTROL, 0x03);
    write_register(FIFO_CONTROL, 0x07);
    write_register(MODEM_CONTROL, 0x0b);
}

/// Has received bytes raise [`IRQ`].
pub fn enable_interrupt() {
    write_register(INTERRUPT_ENABLE, 0x01);
}

/// Takes what was received; true if there is a Ctrl-C in it.
#[must_use]
pub fn has_interrupt() -> bool {
    let mut found = false;
    for _ in 0..BYTES_MAX {
        if read_register(LINE_STATUS) & RECEIVED == 0 {
            break;
        }
        found |= read_register(BASE) == INTERRUPT;
    }
    found
}

/// Whether the last byte ended a line.
static IS_LINE_ENDED: AtomicBool = AtomicBool::new(true);

/// Ends the line, if the last byte did not.
pub fn end_line() {
    if !IS_LINE_ENDED.load(Ordering::Relaxed) {
        write(b"\n");
    }
}

/// Sends bytes as they are, a line feed as carriage return and line feed.
pub fn write(bytes: &[u8]) {
    if let Some(last) = bytes.last() {
        IS_LINE_ENDED.store(*last == b'\n', Ordering::Relaxed);
    }
    let mut room = 0;
    for &byte in bytes {
        let pair: &[u8] = if byte == b'\n' { b"\r\n" } else { &[byte] };
        for &byte in pair {
            if room == 0 {
                wait_empty();
                room = FIFO_LEN;
            }
            write_register(BASE, byte);
            room -= 1;
        }
    }
}

fn wait_empty() {
    for _ in 0..PATIENCE {
        if read_register(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
            break;
        }
        core::hint::spin_loop();
    }
}

/// The line, for formatted text.
#[derive(Debug, Clone, Copy)]
pub struct Line;

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
