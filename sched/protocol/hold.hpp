// sched/protocol/hold.hpp - a goroutine keeps its P while it has to do with locks of the runtime, as templates over the
// memory (memory.hpp). Why: grt/detail/hold.hpp, which has the owner's side in assembly.
//
// An M has `words` of its thread: `holds`, which that thread alone writes, and `barred`.
//
//   owner:  holds + 1; compiler barrier; read barred   sysmon: lost = take; barred = 1; membarrier; read in, read holds
//
// One of the two sees the other. [HOLD-1] Sysmon sees a count: it looks again for some microseconds, in which no other
// hold can begin; then it leaves the P where it is, and `barred` is open again.
// The owner sees that it is not: it takes its count back and waits while it is asked; if its P is gone, it gets one
// first.
//
//   barred   set by                                   meaning
//   open     who ends the take; the owner, on g0      nobody is about to take the P
//   asked    sysmon, within its take                  stay out until this is over
//   gone     who gave the P away, sysmon or owner     without a P [HOLD-3]
//
//   H1  Who holds has a P, and keeps it until the count is 0 or it is in its bracket.
//   H2  Also where a hold becomes a park: in = 1 comes before the count falls, and either comes before sysmon's
//       membarrier, or its look at `lost` comes after, and finds the take.
//   H3  `barred` is gone while lost is gone, and open before `lost` becomes free.
//
// A hold within a hold or within a bracket only counts: what is outside keeps the P. `words` belong to a thread, an M
// does not: a thread that is about to end takes them from its M, fences, and waits while lost is take; sysmon sets
// take, fences, and reads `words`. [HOLD-2]
#pragma once
#include "sched/protocol/bracket.hpp"

namespace grt::protocol {

enum bar_state : std::uint32_t { open, asked, bar_gone };

/// What grt/detail/hold.hpp does. false: begin again after await_hold().
template <class A, class W> [[nodiscard]] bool hold(W* words) {
  A::store(words->holds, A::load(words->holds, std::memory_order_relaxed) + 1u, std::memory_order_relaxed);
  A::compiler_fence(site::hold_on_fence); // [HOLD-1] the cheap half: sysmon's membarrier is the fence
  return A::load(words->barred, std::memory_order_relaxed) == std::uint32_t{open};
}

template <class A, class W> void let_loose(W* words) {
  // orders nothing: locks hand over what was done under them
  A::store(words->holds, A::load(words->holds, std::memory_order_relaxed) - 1u, std::memory_order_relaxed);
}

/// The owner, outside, after hold() said no and the count is taken back. false: it has no P.
template <class A, class W> [[nodiscard]] bool await_hold(W* words) {
  for (int i = 0;; A::pause(i)) {
    // [HOLD-3] gone: it sees what it is to find adrift
    std::uint32_t b = A::load(words->barred, std::memory_order_acquire, site::hold_gone);
    if (b != asked) return b == open;
  }
}

/// Sysmon, m's `lost` is take. true: m holds nothing, is outside, and is asked to stay. Else all is as before. As long
/// as it is asked it comes in nowhere, so who waits a moment finds it outside, however often it takes locks.
template <class A, class M, class Patience> [[nodiscard]] bool bar(M* m, Patience patient) {
  A::full_fence(site::bar_words);                             // [HOLD-2]
  auto* words = A::load(m->words, std::memory_order_acquire); // [HOLD-2] memory of a new thread
  if (!words) return false;                                   // its thread ends
  A::store(words->barred, std::uint32_t{asked}, std::memory_order_relaxed);
  A::all_threads_fence(site::take_fence); // [BRK-1] [HOLD-1]
  do {                                    // in this order: a bracket may end within a hold that began in it
    if (A::load(m->in, std::memory_order_acquire, site::take_in) == 0u && // [BRK-1]
        A::load(words->holds, std::memory_order_relaxed) == 0u)
      return true;
  } while (patient());
  A::store(words->barred, std::uint32_t{open}, std::memory_order_relaxed);
  return false;
}

/// Sysmon, within its take, after bar(); or m's own thread, which may have no words any more.
template <class A, class M> void set_bar(M* m, bar_state to) {
  auto* words = A::load(m->words, std::memory_order_relaxed);
  if (words) A::store(words->barred, std::uint32_t{to}, std::memory_order_release, site::set_bar); // [HOLD-3]
}

/// m's own thread, before its end.
template <class A, class M> void words_go(M* m) {
  A::store(m->words, decltype(A::load(m->words, std::memory_order_relaxed)){nullptr}, std::memory_order_relaxed);
  A::full_fence(site::words_fence); // [HOLD-2]
  int i = 0;
  // [HOLD-2] after whatever sysmon has written to them
  while (A::load(m->lost, std::memory_order_acquire, site::words_lost) == lost_state::take) A::pause(i);
}

} // namespace grt::protocol
