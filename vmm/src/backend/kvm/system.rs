//! The memory that only the processor sees: descriptor tables, fault stubs, their stack, and the
//! page tables, laid out in one slot of guest-physical memory.
use super::paging::{Access, PageTables};
use super::{descriptors, ports};
use paravane_abi::layout::{CONFIG, HYPERCALL_PAGE, PAGE_SIZE, RAM_BASE, START_INFO, TIME_PAGE};
use paravane_host::access;
use paravane_host::space::AddressSpace;
use paravane_host::width::to_usize;

/// Guest-physical address of the system memory. Below 4 GiB, where VT-x wants some pages of its own
/// at the end, there is otherwise nothing but [`HOST_PAGES_PHYS`].
pub(super) const SYSTEM_PHYS: u64 = 0x10_0000;

/// Guest-physical address of the host pages.
pub(super) const HOST_PAGES_PHYS: u64 = 2 << 30;

/// Guest-physical address of RAM offset 0, aligned for large pages like its virtual address.
pub(super) const RAM_PHYS: u64 = 4 << 30;

/// Virtual address of the system memory: in the upper half, which no guest uses.
const SYSTEM_VIRT: u64 = 0xffff_8000_0000_0000;

/// Where the guest arrives when software KVM lets a system call instruction pass: a canonical
/// address that is never mapped, so that the next thing is a fault that tells what happened.
pub(super) const SYSCALL_TRAP: u64 = 0xffff_9000_0000_0000;

/// Virtual addresses of the parts; each is a page, the TSS three.
pub(super) const GDT: u64 = SYSTEM_VIRT;
pub(super) const IDT: u64 = SYSTEM_VIRT + PAGE_SIZE;
const STUBS: u64 = SYSTEM_VIRT + 2 * PAGE_SIZE;
pub(super) const TSS: u64 = SYSTEM_VIRT + 3 * PAGE_SIZE;
/// The page below the stack is not mapped.
const FAULT_STACK: u64 = SYSTEM_VIRT + 7 * PAGE_SIZE;
pub(super) const FAULT_STACK_TOP: u64 = FAULT_STACK + PAGE_SIZE;

const _: () = assert!(SYSCALL_TRAP >= FAULT_STACK_TOP, "nothing is mapped there");

/// Offset of the page tables, the root first.
const PAGE_TABLES: u64 = FAULT_STACK_TOP - SYSTEM_VIRT;

/// Guest-physical address of the root of the page tables.
pub(super) const CR3: u64 = SYSTEM_PHYS + PAGE_TABLES;

/// Offset within the system memory of `address`, if it lies on the fault stack.
pub(super) fn fault_stack_offset(address: u64) -> Option<usize> {
    let on_stack = (FAULT_STACK..FAULT_STACK_TOP).contains(&address);
    on_stack.then(|| to_usize(address - SYSTEM_VIRT))
}

/// The system memory of a domain, as it is to lie at [`SYSTEM_PHYS`], for a guest with
/// `host_pages_len` bytes of host pages.
pub(super) fn image(space: &AddressSpace, host_pages_len: u64) -> Vec<u8> {
    let mut image = Vec::new();
    let mut put = |address: u64, bytes: &[u8]| {
        image.resize(to_usize(address - SYSTEM_VIRT), 0);
        image.extend_from_slice(bytes);
    };
    put(GDT, &descriptors::gdt());
    put(IDT, &descriptors::idt(STUBS));
    put(STUBS, &descriptors::stubs(ports::FAULT_PORT));
    put(TSS, &descriptors::tss(FAULT_STACK_TOP, ports::HYPERCALL_PORTS));
    put(SYSTEM_VIRT + PAGE_TABLES, &page_tables(space, host_pages_len).bytes());
    image
}

fn page_tables(space: &AddressSpace, host_pages_len: u64) -> PageTables {
    let mut tables = PageTables::new(CR3);
    map_system(&mut tables);
    map_host_pages(&mut tables, host_pages_len);
    map_ram(&mut tables, space);
    tables
}

fn map_system(tables: &mut PageTables) {
    let read = Access { write: false, execute: false, user: false };
    let mut map = |address: u64, pages: u64, access| {
        let phys = SYSTEM_PHYS + (address - SYSTEM_VIRT);
        tables.map(address, phys, pages * PAGE_SIZE, access);
    };
    map(GDT, 1, read);
    map(IDT, 1, read);
    map(STUBS, 1, Access { execute: true, ..read });
    map(TSS, 3, read);
    map(FAULT_STACK, 1, Access { write: true, ..read });
}

fn map_host_pages(tables: &mut PageTables, len: u64) {
    let read = Access { write: false, execute: false, user: true };
    let mut map = |address: u64, len: u64, access| {
        tables.map(address, HOST_PAGES_PHYS + (address - START_INFO), len, access);
    };
    map(START_INFO, PAGE_SIZE, read);
    map(HYPERCALL_PAGE, PAGE_SIZE, Access { execute: true, ..read });
    map(TIME_PAGE, PAGE_SIZE, read);
    map(CONFIG, START_INFO + len - CONFIG, read);
}

/// Maps RAM as the address space says: what no region covers is readable and writable.
fn map_ram(tables: &mut PageTables, space: &AddressSpace) {
    let mut map = |from: u64, to: u64, access| {
        if let Some(access) = user_access(access) {
            tables.map(from, RAM_PHYS + (from - RAM_BASE), to - from, access);
        }
    };
    let mut mapped = RAM_BASE;
    for region in space.regions() {
        map(mapped, region.pages.start, access::Access::ReadWrite);
        map(region.pages.start, region.pages.end, region.access);
        mapped = region.pages.end;
    }
    map(mapped, RAM_BASE + space.ram_size(), access::Access::ReadWrite);
}

fn user_access(access: access::Access) -> Option<Access> {
    access.can_read().then(|| Access {
        write: access.can_write(),
        execute: access.can_execute(),
        user: true,
    })
}
