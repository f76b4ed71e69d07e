/* arch/aarch64/switch.S - the switch from one goroutine to another. AAPCS64. arch/x86_64/switch.S lists its steps.
 *
 * void grt_switch(M* m /x0/, G* self /x1/, G* to /x2/, uintptr_t release /x3/)
 *
 * The frame, 160 bytes from the saved sp upwards:
 *   sp+0x00 x29 x30   sp+0x10 x19 x20 ... sp+0x50 x27 x28   sp+0x60 d8 d9 ... sp+0x90 d14 d15
 * Not saved: FPCR and FPSR (see attr::fp_env), tpidr_el0 (it belongs to the M), SVE state beyond d8-d15 (caller-saved),
 * the signal mask.
 *
 * Memory order: the release of the lock and `in = 0` are stlr. A core that sees one of them also sees the saved sp and
 * everything that was done inside the bracket. */
#include "arch/offsets.h"
#include "arch/aarch64/asm.h"

GRT_FUNC_BEGIN(grt_switch)
        ldr     x9, [x0, #GRT_M_EH]
        ldr     x10, [x9]
        ldr     w11, [x9, #8]
        orr     x12, x10, x11
        cbnz    x12, .Lsave_eh
.Lsave: ldr     x4, [x2, #GRT_G_SP]
        .cfi_remember_state
        sub     sp, sp, #160
        .cfi_adjust_cfa_offset 160
        stp     x29, x30, [sp]
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        stp     x19, x20, [sp, #16]
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        stp     x21, x22, [sp, #32]
        .cfi_rel_offset x21, 32
        .cfi_rel_offset x22, 40
        stp     x23, x24, [sp, #48]
        .cfi_rel_offset x23, 48
        .cfi_rel_offset x24, 56
        stp     x25, x26, [sp, #64]
        .cfi_rel_offset x25, 64
        .cfi_rel_offset x26, 72
        stp     x27, x28, [sp, #80]
        .cfi_rel_offset x27, 80
        .cfi_rel_offset x28, 88
        stp     d8, d9, [sp, #96]
        .cfi_rel_offset d8, 96
        .cfi_rel_offset d9, 104
        stp     d10, d11, [sp, #112]
        .cfi_rel_offset d10, 112
        .cfi_rel_offset d11, 120
        stp     d12, d13, [sp, #128]
        .cfi_rel_offset d12, 128
        .cfi_rel_offset d13, 136
        stp     d14, d15, [sp, #144]
        .cfi_rel_offset d14, 144
        .cfi_rel_offset d15, 152
        cbz     x4, .Lfresh
        mov     x9, sp
        mov     sp, x4                  /* before G_SP is stored: until here a signal handler may run below x9 */
        str     x9, [x1, #GRT_G_SP]
        ldr     w9, [x1, #GRT_G_SEQ]
        add     w9, w9, #GRT_G_SEQ_ONE
        add     x10, x1, #GRT_G_SEQ
        stlr    w9, [x10]               /* even: a core that sees it also sees the saved frame */
        str     x2, [x0, #GRT_M_G]
        ldr     w9, [x2, #GRT_G_SEQ]
        add     w9, w9, #GRT_G_SEQ_ONE
        str     w9, [x2, #GRT_G_SEQ]    /* odd: the reader's membarrier orders it */
        tbnz    x3, #0, .Lcommit
        stlr    wzr, [x3]
.Lloaded:
        ldr     w9, [x2, #GRT_G_SEQ]
        tbnz    w9, #0, .Lload_eh
.Lload: ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        ldp     x29, x30, [sp]
        stlr    wzr, [x0]               /* m->in = 0; GRT_M_IN is 0 */
        /* The registers equal the frame by now, so the unwind rules above stay right until sp moves. */
        add     sp, sp, #160
        .cfi_restore_state
        ret

        .cfi_remember_state
        .cfi_adjust_cfa_offset 160      /* .Lcommit runs with the frame still on the stack: state its rules again */
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        .cfi_rel_offset x21, 32
        .cfi_rel_offset x22, 40
        .cfi_rel_offset x23, 48
        .cfi_rel_offset x24, 56
        .cfi_rel_offset x25, 64
        .cfi_rel_offset x26, 72
        .cfi_rel_offset x27, 80
        .cfi_rel_offset x28, 88
        .cfi_rel_offset d8, 96
        .cfi_rel_offset d9, 104
        .cfi_rel_offset d10, 112
        .cfi_rel_offset d11, 120
        .cfi_rel_offset d12, 128
        .cfi_rel_offset d13, 136
        .cfi_rel_offset d14, 144
        .cfi_rel_offset d15, 152
.Lcommit: /* x19 and x20 may be overwritten: the frame of `to` holds the values to restore */
        mov     x19, x0
        mov     x20, x2
        mov     x0, x3
        bl      grt_commit
        mov     x0, x19
        mov     x2, x20
        b       .Lloaded
.Lload_eh:
        ldr     x10, [x0, #GRT_M_EH]
        ldr     x11, [x2, #GRT_G_EH]
        str     x11, [x10]
        ldr     w11, [x2, #GRT_G_EH+8]
        str     w11, [x10, #8]
        and     w9, w9, #~GRT_G_FLAG_EH
        str     w9, [x2, #GRT_G_SEQ]
        b       .Lload
.Lfresh: /* the callee-saved registers may be overwritten: self's frame holds their values */
        mov     x19, x0
        mov     x20, x3
        mov     x21, x1
        mov     x22, x2
        ldr     x0, [x0, #GRT_M_P]
        mov     x1, x2
        bl      grt_bind                /* (P*, G*) -> top of the window */
        mov     x1, x0
        mov     x0, x20
        b       grt_start
        .cfi_restore_state
.Lsave_eh: /* nothing is saved yet */
        str     x10, [x1, #GRT_G_EH]
        str     w11, [x1, #GRT_G_EH+8]
        ldr     w12, [x1, #GRT_G_SEQ]
        orr     w12, w12, #GRT_G_FLAG_EH
        str     w12, [x1, #GRT_G_SEQ]
        str     xzr, [x9]
        str     wzr, [x9, #8]
        b       .Lsave
GRT_FUNC_END(grt_switch)

/* The first frame of a goroutine. x1: top of the stack, x0: release, x19: M, x21: self, x22: to. Unwinding ends here,
 * because the return address is undefined and the frame pointer is zero. */
GRT_FUNC_BEGIN(grt_start)
        .cfi_undefined x30
        mov     x9, sp
        mov     sp, x1
        str     x9, [x21, #GRT_G_SP]
        ldr     w9, [x21, #GRT_G_SEQ]
        add     w9, w9, #GRT_G_SEQ_ONE
        add     x10, x21, #GRT_G_SEQ
        stlr    w9, [x10]
        str     x22, [x19, #GRT_M_G]
        ldr     w9, [x22, #GRT_G_SEQ]
        add     w9, w9, #GRT_G_SEQ_ONE
        str     w9, [x22, #GRT_G_SEQ]
        mov     x29, xzr
        mov     x30, xzr
        bl      grt_gmain
        brk     #1
GRT_FUNC_END(grt_start)

GRT_NOTES
