/* arch/offsets.h - the offsets of the members of G and M that assembly uses. Plain #defines, because .S files include
 * this file. sched/goroutine/g.hpp and sched/core/sched.hpp check every offset with a static_assert. */
#ifndef GRT_ARCH_OFFSETS_H
#define GRT_ARCH_OFFSETS_H

#define GRT_G_SP 0   /* void*  saved frame; null: the goroutine never ran and has no window yet */
#define GRT_G_STK 8  /* char*  top of its window, or null */
#define GRT_G_SEQ 48 /* u32    bit 0: exception state is saved in G_EH. The bits above it count the switches to and
                        from the goroutine: the count is odd while it is on a thread (sched/protocol/look.hpp) */
#define GRT_G_EH 64  /* { void* caught; u32 uncaught; }, the layout of the C++ ABI's __cxa_eh_globals */

#define GRT_M_IN 0 /* u32    1: inside the bracket, no other thread touches this M's P */
#define GRT_M_G 8  /* G*     the goroutine that runs on this M */
#define GRT_M_P 16 /* P*     the processor that this M holds */
#define GRT_M_EH 24 /* address of this thread's __cxa_eh_globals */

#define GRT_G_FLAG_EH 1 /* in G_SEQ */
#define GRT_G_SEQ_ONE 2 /* in G_SEQ */

#endif
