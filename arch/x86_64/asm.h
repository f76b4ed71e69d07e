/* arch/x86_64/asm.h - the macros that open and close each function and each x86-64 assembly file.
 *
 * GRT_FUNC_BEGIN/END give a function its section, type, unwind region, landing pad (endbr64) and size.
 * GRT_NOTES ends the file. It makes the stack non-executable and adds a property note that claims IBT but not SHSTK. A
 * switch by `ret` to another stack faults under a shadow stack, so the linker must not mark a program that links this
 * code as SHSTK-safe. */
#ifndef GRT_ARCH_X86_64_ASM_H
#define GRT_ARCH_X86_64_ASM_H

#define GRT_FUNC_BEGIN(name) \
        .text;               \
        .p2align 6;          \
        .globl name;         \
        .hidden name;        \
        .type name, @function; \
name:                        \
        .cfi_startproc;      \
        endbr64

#define GRT_FUNC_END(name) \
        .cfi_endproc;      \
        .size name, . - name

/* NT_GNU_PROPERTY_TYPE_0 (5), GNU_PROPERTY_X86_FEATURE_1_AND (0xc0000002) = IBT (1). x86-64 psABI, section "Program
 * Property". */
#define GRT_NOTES                                  \
        .section .note.gnu.property, "a", @note;   \
        .p2align 3;                                \
        .long 4, 16, 5;                            \
        .asciz "GNU";                              \
        .long 0xc0000002, 4, 1, 0;                 \
        .section .note.GNU-stack, "", @progbits

#endif
