/* arch/offsets.h - what assembly knows about G and M. Plain #defines, because .S files include it.
 * sched/goroutine/g.hpp and sched/core/sched.hpp static_assert every line. */
#ifndef GRT_ARCH_OFFSETS_H
#define GRT_ARCH_OFFSETS_H

#define GRT_G_SP 0     /* void*  saved frame; null: never ran, no window bound yet */
#define GRT_G_STK 8    /* char*  top of its window, or null */
#define GRT_G_SEQ 48   /* u32    bit 0: exception state is saved in G_EH. From bit 1 on a count, one more at each
                          switch to and from it: odd while it stands on a thread (sched/protocol/look.hpp) */
#define GRT_G_EH 64    /* { void* caught; u32 uncaught; } as the C++ ABI's __cxa_eh_globals */

#define GRT_M_IN 0 /* u32    1: inside the bracket, nobody else touches this M's P */
#define GRT_M_G 8  /* G*     the goroutine that runs here */
#define GRT_M_P 16 /* P*     the processor held */
#define GRT_M_EH 24 /* address of this thread's __cxa_eh_globals */

#define GRT_G_FLAG_EH 1 /* in G_SEQ */
#define GRT_G_SEQ_ONE 2 /* in G_SEQ */

#endif
