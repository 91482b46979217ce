//! From the loader's 32-bit entry (PVH: Xen, docs/misc/pvh) to Rust in 64-bit mode.
//!
//! The loader enters in 32-bit protected mode with flat segments, paging and interrupts off, and the physical
//! address of its start info in EBX. This code maps the first 4 GiB one to one with large pages, all of it
//! writable, until [`paravane_shim::start`] makes tables of its own.
use core::arch::global_asm;

global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                      # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long _start

    .section .text.boot, "ax"
    .code32
    .globl _start
_start:
    cli
    cld
    mov     esp, offset boot_stack_end
    mov     ebp, ebx

    # Long mode, and pages that are not executable: without them, say so and stop.
    mov     eax, 0x80000000
    cpuid
    cmp     eax, 0x80000001
    jb      .Ltoo_old
    mov     eax, 0x80000001
    cpuid
    and     edx, 0x20100000
    cmp     edx, 0x20100000
    jne     .Ltoo_old

    # 2048 large pages in four directories, one to one.
    mov     edi, offset boot_directories
    mov     eax, 0x83                   # present, writable, 2 MiB
    mov     ecx, 2048
2:  mov     [edi], eax
    add     eax, 0x200000
    add     edi, 8
    loop    2b
    mov     edi, offset boot_pointers
    mov     eax, offset boot_directories + 3
    mov     ecx, 4
3:  mov     [edi], eax
    add     eax, 0x1000
    add     edi, 8
    loop    3b
    mov     eax, offset boot_pointers + 3
    mov     [boot_root], eax

    mov     eax, cr4
    or      eax, 0x620                  # PAE, OSFXSR, OSXMMEXCPT
    mov     cr4, eax
    mov     eax, offset boot_root
    mov     cr3, eax
    mov     ecx, 0xc0000080             # EFER: LME, NXE
    rdmsr
    or      eax, 0x900
    wrmsr
    mov     eax, cr0
    and     eax, 0xfffffff3             # EM, TS off
    or      eax, 0x80010023             # PG, WP, NE, MP, PE
    mov     cr0, eax
    lgdt    [boot_gdt_pointer]
    ljmp    0x08, offset .Llong_mode

.Ltoo_old:
    mov     esi, offset .Ltoo_old_text
4:  mov     edx, 0x3fd                  # COM1: wait until it takes a byte
5:  in      al, dx
    test    al, 0x20
    jz      5b
    lodsb
    test    al, al
    jz      6f
    mov     edx, 0x3f8
    out     dx, al
    jmp     4b
6:
    mov     al, 102                     # paravane's status: the host lacks something
    out     0xf4, al
7:  hlt
    jmp     7b

    .code64
.Llong_mode:
    mov     eax, 0x10
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    xor     eax, eax
    mov     fs, eax
    mov     gs, eax
    mov     rsp, offset boot_stack_end
    mov     edi, ebp
    xor     ebp, ebp
    call    {start}
    ud2

    .section .rodata.boot, "a"
.Ltoo_old_text:
    .ascii "paravane: this processor has no 64-bit mode, or no pages that are not executable\r\n"
    .asciz "paravane: exit status 102\r\n"
    .balign 8
boot_gdt:
    .quad   0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word   boot_gdt_pointer - boot_gdt - 1
    .long   boot_gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_root:
    .skip   4096
boot_pointers:
    .skip   4096
boot_directories:
    .skip   4 * 4096
boot_stack:
    .skip   64 * 1024
boot_stack_end:
    .text
    "#,
    start = sym paravane_shim::start,
);
