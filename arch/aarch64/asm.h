/* arch/aarch64/asm.h - the macros that open and close each function and each AArch64 assembly file; the counterpart of
 * arch/x86_64/asm.h.
 *
 * The property note claims BTI and nothing else. It does not claim PAC, because the saved return address is not signed.
 * It does not claim GCS, because a switch by `ret` faults under a guarded control stack. */
#ifndef GRT_ARCH_AARCH64_ASM_H
#define GRT_ARCH_AARCH64_ASM_H

#define GRT_FUNC_BEGIN(name) .text; .p2align 6; .globl name; .hidden name; .type name, %function; \
        name: .cfi_startproc; hint #34 /* bti c */
#define GRT_FUNC_END(name) .cfi_endproc; .size name, . - name

/* GNU_PROPERTY_AARCH64_FEATURE_1_AND (0xc0000000) = BTI (1). AArch64 ELF ABI, "Program Property". */
#define GRT_NOTES .section .note.gnu.property, "a", %note; .p2align 3; .long 4, 16, 5; .asciz "GNU"; \
        .long 0xc0000000, 4, 1, 0; \
        .section .note.GNU-stack, "", %progbits

#endif
