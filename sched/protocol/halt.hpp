// sched/protocol/halt.hpp - a halt: goroutines stand still, and go on when the halt is lifted. Templates
// over the memory (memory.hpp). When that happens, and who decides it: sched/runtime/halt.hpp.
//
// An M has the words that the bracket needs. `halted` is a futex word, 1 during a halt.
//
//   I1  An M that reads halted = 1 does not switch to a goroutine. Every g0 reads `halted` before each
//       switch.
//   I2  Goroutines also switch to each other without g0. So the halt takes their bracket away: it stores
//       M::lost = stopped. Such a goroutine parks or queues itself at its next call, and its M is then
//       on g0.
//   I3  `stopped` does not change who holds the P: the M still does. `gone` says that another M holds it.
//       So `stopped` may become `free` at any time, by the M itself or by the thread that lifts the halt.
//       A stale `stopped` costs one switch.
//
//   halt:   halted = 1; membarrier [HALT-1]; for each P: read P->m, lost = stopped
//   giver:  P->m = M [LEND-2]; turn of M = 1 [LEND-1]     M: compiler barrier [HALT-1]; read halted; switch
//   M:      lost: stopped -> free; compiler barrier [HALT-1]; read halted; switch
//
// Either the M reads 1 and waits, or the halt finds the M in P->m and sets its `lost`. An M that read 0
// may have begun one switch by then. That switch is not undone. A lock makes halt and lift exclusive.
//
// Rejected: `gone` instead of `stopped`. The thread that lifts the halt could not tell an M that holds
// its P from an M whose P was handed off, and two Ms would run on one P.
// Rejected: to take the P away and give it back later. That needs a second M for each P.
#pragma once
#include "sched/protocol/handoff.hpp"

namespace grt::protocol {

/// Caller: holds the lock of halts and has called halt_begins(). Waits for a thief or for sysmon if one
/// of them is busy with m. Returns true if M::lost was `announced`; that announcement is over.
template <class A, class M> [[nodiscard]] bool stop(M* m, typename A::lock& thieves) {
  for (int i = 0;; A::pause(i)) {
    lost_state l = A::load(m->lost, std::memory_order_relaxed);
    if (l == lost_state::gone || l == lost_state::stopped) return false;
    if (l != lost_state::free && l != lost_state::poke && l != lost_state::announced) continue;
    if (!seize<A>(m, l, thieves)) continue;
    let_go<A>(m, false, lost_state::stopped);
    return l == lost_state::announced;
  }
}

/// Caller: holds the lock of halts.
template <class A, class Word> void halt_begins(Word& halted) {
  A::store(halted, std::uint32_t{1}, std::memory_order_relaxed);
  // [HALT-1] an M that has read 0 is in P->m, and we see the `lost` that it stored before
  A::all_threads_fence(site::halt_fence);
}

/// m holds its P. Relaxed: the next bracket orders what follows.
template <class A, class M> GRT_INLINE void let_run(M* m) {
  lost_state l = lost_state::stopped;
  A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed);
}

/// Caller: g0, inside, which was about to switch to a goroutine and read halted = 1.
template <class A, class M, class Word> void await_lift(M* m, Word& halted) {
  do {
    while (A::load(halted, std::memory_order_relaxed) != std::uint32_t{0}) A::futex_wait(halted, 1);
    let_run<A>(m);
    // [HALT-1] `lost` before `halted`: a halt that begins now finds `lost` free, or we read halted = 1. The
    // fence only satisfies the language standard: no compiler moves a load ahead of a compare-and-swap, so
    // the model does not try it either.
    A::compiler_fence(site::none);
  } while (A::load(halted, std::memory_order_relaxed) != std::uint32_t{0});
}

/// Caller: g0, outside, after its bracket was refused. enter() tries again. Returns true, inside, if the
/// M held its P all the time. Returns false if the P belongs to another M now.
template <class A, class M, class Enter> [[nodiscard]] bool rejoin(M* m, Enter enter) {
  for (;;) {
    // [LOST-1] gone: m sees what the taker left for it as a detached M
    if (A::load(m->lost, std::memory_order_acquire, site::rejoin) == lost_state::gone) return false;
    let_run<A>(m);
    if (enter()) return true;
  }
}

} // namespace grt::protocol
