//! Segments and the task state: which stack the processor takes for what comes out of ring 3.
use alloc::boxed::Box;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes of each of the shim's stacks.
const STACK_LEN: usize = 32 << 10;

/// Stacks in the task state (numbers count from 0; the gates' from 1): for interrupts and exceptions, and
/// for what must not fail for want of a stack: double faults, NMIs and machine checks.
pub const FAULT_STACK: u16 = 0;
/// See [`FAULT_STACK`].
pub const DOUBLE_FAULT_STACK: u16 = 1;

/// The selectors in use.
#[derive(Debug, Clone, Copy)]
pub struct Selectors {
    /// Code of ring 0.
    pub kernel_code: SegmentSelector,
    /// Data of ring 0.
    pub kernel_data: SegmentSelector,
    /// Data of ring 3.
    pub user_data: SegmentSelector,
    /// Code of ring 3.
    pub user_code: SegmentSelector,
}

/// Loads segments and task state. The task state has no I/O bitmap: ring 3 may use no port.
#[must_use]
pub fn load() -> Selectors {
    let mut tss = TaskStateSegment::new();
    for stack in [FAULT_STACK, DOUBLE_FAULT_STACK] {
        tss.interrupt_stack_table[usize::from(stack)] = new_stack();
    }
    let mut gdt = GlobalDescriptorTable::<8>::empty();
    // In the order that `sysret` wants: user data, then user code.
    let selectors = Selectors {
        kernel_code: gdt.append(Descriptor::kernel_code_segment()),
        kernel_data: gdt.append(Descriptor::kernel_data_segment()),
        user_data: gdt.append(Descriptor::user_data_segment()),
        user_code: gdt.append(Descriptor::user_code_segment()),
    };
    let task = gdt.append(Descriptor::tss_segment(Box::leak(Box::new(tss))));
    Box::leak(Box::new(gdt)).load();
    let null = SegmentSelector::NULL;
    // SAFETY: selectors of the table just loaded; code and stack stay flat, and 64-bit mode has no use for
    // the others.
    unsafe {
        CS::set_reg(selectors.kernel_code);
        SS::set_reg(selectors.kernel_data);
        DS::set_reg(null);
        ES::set_reg(null);
        FS::set_reg(null);
        GS::set_reg(null);
        load_tss(task);
    }
    selectors
}

/// The end of a new stack, aligned as the processor and compiled code expect.
#[must_use]
pub fn new_stack() -> VirtAddr {
    #[repr(align(16))]
    struct Stack([u8; STACK_LEN]);
    let stack = Box::leak(Box::new(Stack([0; STACK_LEN])));
    VirtAddr::from_ptr(stack.0.as_ptr_range().end)
}
