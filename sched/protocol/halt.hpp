// sched/protocol/halt.hpp - goroutines stand still and go on again, as templates over the memory (memory.hpp). When
// that happens, and who decides it: halt.hpp.
//
// An M has what the bracket needs; `halted` is a futex word, 1 while goroutines stand still.
//
//   I1  While `halted` is 1, an M that reads it does not switch to a goroutine. Every g0 reads it before each switch.
//   I2  Goroutines also switch to each other without g0. So the halt takes their bracket away: M::lost = stopped. Such
//   a
//       goroutine parks or requeues itself at its next call, and its M is on g0.
//   I3  `stopped` says nothing about who holds the P: its M does. `gone` says that another M holds it. So `stopped` may
//       become `free` at any time, by the M itself or by whoever lifts the halt; a stale `stopped` costs one switch.
//
//   halt:   halted = 1; membarrier [HALT-1]; for each P: read P->m, lost = stopped
//   giver:  P->m = M [LEND-2]; turn of M = 1 [LEND-1]           M: compiler barrier [HALT-1]; read halted; switch
//   M:      lost: stopped -> free; compiler barrier [HALT-1]; read halted; switch
//
// Either the M reads 1 and waits, or the halt finds the M in P->m and its `lost` to be set. What an M that read 0 has
// begun by then, one switch, is not undone. Halt and lift exclude each other by a lock.
// Rejected: `gone` for this, too (whoever lifts the halt could not tell an M that holds its P from one whose P was
// handed off, and two Ms would run on one P); a P that is taken away and given back (needs a second M for each).
#pragma once
#include "sched/protocol/handoff.hpp"

namespace grt::protocol {

/// Under the lock of halts, after halt_begins(). true: M::lost was `announced`, which is over. A thief or sysmon that
/// is not done with m is waited for.
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

/// Under the lock of halts.
template <class A, class Word> void halt_begins(Word& halted) {
  A::store(halted, std::uint32_t{1}, std::memory_order_relaxed);
  A::all_threads_fence(
      site::halt_fence); // [HALT-1] an M that has read 0 stands in P->m, and its `lost` is as it left it
}

/// m holds its P. Orders nothing: the next bracket does.
template <class A, class M> GRT_INLINE void let_run(M* m) {
  lost_state l = lost_state::stopped;
  A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed);
}

/// g0, inside, before it switches to a goroutine, when it has read 1.
template <class A, class M, class Word> void await_lift(M* m, Word& halted) {
  do {
    while (A::load(halted, std::memory_order_relaxed) != std::uint32_t{0}) A::futex_wait(halted, 1);
    let_run<A>(m);
    // [HALT-1] `lost` before `halted`: a halt meanwhile finds it free, or is seen. For the letter of the language: no
    // compiler moves a load ahead of a compare-and-swap, and the model has none that does.
    A::compiler_fence(site::none);
  } while (A::load(halted, std::memory_order_relaxed) != std::uint32_t{0});
}

/// g0, outside, whose bracket said no. enter(): tries again. true: it is inside, the P was its own all the time. false:
/// the P is another M's.
template <class A, class M, class Enter> [[nodiscard]] bool rejoin(M* m, Enter enter) {
  for (;;) {
    // [LOST-1] gone: it sees what it is to find adrift
    if (A::load(m->lost, std::memory_order_acquire, site::rejoin) == lost_state::gone) return false;
    let_run<A>(m);
    if (enter()) return true;
  }
}

} // namespace grt::protocol
