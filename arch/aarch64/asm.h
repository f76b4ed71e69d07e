/* arch/aarch64/asm.h - what every AArch64 assembly file opens and closes with; the twin of arch/x86_64/asm.h.
 * The property note says BTI and nothing else: the saved return address is not signed, so PAC is not claimed, and a switch by `ret` faults
 * under a guarded control stack, so GCS is not. */
#ifndef GRT_ARCH_AARCH64_ASM_H
#define GRT_ARCH_AARCH64_ASM_H

#define GRT_FUNC_BEGIN(name) .text; .p2align 6; .globl name; .hidden name; .type name, %function; name: .cfi_startproc; hint #34 /* bti c */
#define GRT_FUNC_END(name) .cfi_endproc; .size name, . - name

/* GNU_PROPERTY_AARCH64_FEATURE_1_AND (0xc0000000) = BTI (1). AArch64 ELF ABI, "Program Property". */
#define GRT_NOTES .section .note.gnu.property, "a", %note; .p2align 3; .long 4, 16, 5; .asciz "GNU"; .long 0xc0000000, 4, 1, 0; \
        .section .note.GNU-stack, "", %progbits

#endif
