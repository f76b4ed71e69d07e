/* arch/x86_64/switch.S - the switch from one goroutine to another. System V psABI, x86-64.
 *
 * void grt_switch(M* m /rdi/, G* self /rsi/, G* to /rdx/, uintptr_t release /rcx/)
 *
 * The caller is inside the bracket (m->in == 1). The far side is the code that runs after the stack pointer has moved,
 * on the stack of `to`; it leaves the bracket. One function does the whole switch, and it is the only place that
 * switches. So the return predictor guesses right, and M stays in a register.
 *
 *   1. Exception state: if the thread's two words are not both zero, move them into self->eh and set the flag.
 *   2. Push the callee-saved registers.
 *   3. If to->sp == 0, `to` never ran. Bind a window (a C call, still on self's stack). Then grt_start does step 4 and
 *      calls grt_gmain.
 *   4. rsp = to->sp. Then self->sp = the old rsp; self->seq becomes even (saved); m->g = to; to->seq becomes odd (on a
 *      thread). The order matters: a signal handler runs below rsp, so the memory below a saved sp is unused only after
 *      rsp has left that stack. Debugging code reads seq before and after everything else that it reads of a goroutine
 *      (sched/protocol/look.hpp).
 *   5. Release: an even address is a spin lock, which is stored 0; an odd one is a record for grt_commit(release).
 *   6. If to's flag is set, restore its exception state.
 *   7. Pop the registers, m->in = 0, ret.
 *
 * The frame, from the saved sp upwards:
 *   sp+0x00 r15   sp+0x08 r14   sp+0x10 r13   sp+0x18 r12   sp+0x20 rbx   sp+0x28 rbp   sp+0x30 return address
 * Not saved: xmm/ymm/zmm (caller-saved in this ABI), MXCSR and the x87 control word (see attr::fp_env), the fs base (it
 * belongs to the M), the signal mask. The direction flag is clear at every call, by the ABI. An xchg of two registers
 * does not lock the bus.
 *
 * The frames before and after step 4 have the same layout, so one set of unwind rules is right at every instruction. */
#include "arch/offsets.h"
#include "arch/x86_64/asm.h"

GRT_FUNC_BEGIN(grt_switch)
        movq    GRT_M_EH(%rdi), %rax
        movl    8(%rax), %r8d
        orq     (%rax), %r8
        jne     .Lsave_eh
        .cfi_remember_state
.Lsave: movq    GRT_G_SP(%rdx), %r9
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r15, 0
        testq   %r9, %r9
        je      .Lfresh
        xchgq   %r9, %rsp
        movq    %r9, GRT_G_SP(%rsi)
        addl    $GRT_G_SEQ_ONE, GRT_G_SEQ(%rsi)
        movq    %rdx, GRT_M_G(%rdi)
        addl    $GRT_G_SEQ_ONE, GRT_G_SEQ(%rdx)
        testb   $1, %cl
        jne     .Lcommit
        movl    $0, (%rcx)
        testb   $GRT_G_FLAG_EH, GRT_G_SEQ(%rdx)
        jne     .Lload_eh
.Lload: .cfi_remember_state
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbp
        movl    $0, GRT_M_IN(%rdi)
        ret

        .cfi_restore_state
.Lcommit: /* r12 and rbx may be overwritten: the frame of `to` holds the values to restore */
        movq    %rdi, %rbx
        movq    %rdx, %r12
        movq    %rcx, %rdi
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    grt_commit
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        movq    %rbx, %rdi
        movq    %r12, %rdx
        testb   $GRT_G_FLAG_EH, GRT_G_SEQ(%rdx)
        je      .Lload
.Lload_eh:
        movq    GRT_M_EH(%rdi), %rax
        movq    GRT_G_EH(%rdx), %r8
        movq    %r8, (%rax)
        movl    GRT_G_EH+8(%rdx), %r8d
        movl    %r8d, 8(%rax)
        andl    $~GRT_G_FLAG_EH, GRT_G_SEQ(%rdx)
        jmp     .Lload
.Lfresh: /* the callee-saved registers may be overwritten: self's frame holds their values */
        movq    %rdi, %rbx
        movq    %rsi, %r13
        movq    %rdx, %r12
        pushq   %rcx                    /* also aligns the stack for the call */
        .cfi_adjust_cfa_offset 8
        movq    %rdx, %rsi
        movq    GRT_M_P(%rdi), %rdi
        call    grt_bind                /* (P*, G*) -> top of the window, 16-byte aligned */
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        jmp     grt_start
        .cfi_restore_state
.Lsave_eh: /* nothing is pushed yet */
        movq    (%rax), %r8
        movq    %r8, GRT_G_EH(%rsi)
        movl    8(%rax), %r8d
        movl    %r8d, GRT_G_EH+8(%rsi)
        orl     $GRT_G_FLAG_EH, GRT_G_SEQ(%rsi)
        movq    $0, (%rax)
        movl    $0, 8(%rax)
        jmp     .Lsave
GRT_FUNC_END(grt_switch)

/* The first frame of a goroutine. rax: top of the stack, rdi: release, rbx: M, r13: self, r12: to. Unwinding ends here,
 * because the return address is undefined and the frame pointer is zero. A goroutine never returns through this frame:
 * grt_gmain switches away for good. */
GRT_FUNC_BEGIN(grt_start)
        .cfi_undefined rip
        xchgq   %rax, %rsp
        movq    %rax, GRT_G_SP(%r13)
        addl    $GRT_G_SEQ_ONE, GRT_G_SEQ(%r13)
        movq    %r12, GRT_M_G(%rbx)
        addl    $GRT_G_SEQ_ONE, GRT_G_SEQ(%r12)
        xorl    %ebp, %ebp
        call    grt_gmain
        ud2
GRT_FUNC_END(grt_start)

GRT_NOTES
