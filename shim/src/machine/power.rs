//! The end of the machine.
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{VirtAddr, instructions};

/// QEMU's `isa-debug-exit`: ends QEMU with status 2 n + 1.
const DEBUG_EXIT: u16 = 0xf4;

/// `PM1a_CNT` of QEMU's q35 and pc machines, and its `SLP_EN` with `SLP_TYP` 0, which is S5 there (QEMU,
/// `hw/acpi`).
const PM1A_CONTROL: u16 = 0x604;
const SLEEP_ENABLE: u16 = 1 << 13;

/// Cloud Hypervisor's shutdown port, and S5 with `SLP_EN` (its `devices/src/acpi.rs`).
const SLEEP_CONTROL: u16 = 0x600;
const SLEEP_S5: u8 = 5 << 2 | 1 << 5;

/// Keyboard controller and its command to reset the processor: Firecracker's way to end.
const KEYBOARD_COMMAND: u16 = 0x64;
const RESET: u8 = 0xfe;

/// Switches the machine off, in the way of whichever machine it is, with `status` where the machine can
/// tell it to anybody. As the last resort the processor shuts down, which resets machines; QEMU's option
/// `-no-reboot` makes that an end.
pub fn off(status: u8) -> ! {
    // SAFETY: nothing runs after this; these ports belong to the ways to end of known machines.
    unsafe {
        Port::new(DEBUG_EXIT).write(status);
        Port::new(PM1A_CONTROL).write(SLEEP_ENABLE);
        Port::new(SLEEP_CONTROL).write(SLEEP_S5);
        Port::new(KEYBOARD_COMMAND).write(RESET);
        // Without an interrupt table, an exception becomes a triple fault.
        lidt(&DescriptorTablePointer { limit: 0, base: VirtAddr::zero() });
        core::arch::asm!("ud2");
    }
    loop {
        instructions::hlt();
    }
}
