// sched/protocol/hold.hpp - a hold: a goroutine keeps its P while it uses a lock of the runtime. Templates
// over the memory (memory.hpp). grt/detail/hold.hpp says why, and has the owner's side in assembly.
//
// An M has the pointer `words` to two words of its thread: `holds`, a count that only that thread writes,
// and `barred`. Here the owner is the thread of the goroutine, and sysmon wants to take the P:
//
//   owner:  holds + 1; compiler barrier; read barred
//   sysmon: lost = take; barred = asked; membarrier; read in; read holds
//
// One of the two sees the other: [HOLD-1]
//   sysmon reads a count that is not 0. It looks again for some microseconds, in which no other hold can
//   begin. Then it leaves the P where it is and opens `barred` again.
//   The owner reads that `barred` is not open. It takes its count back and waits while `barred` is asked.
//   If its P is gone, it gets a P first.
//
//   barred   set by                                  meaning
//   open     the ender of the take; the owner on g0  nobody is about to take the P
//   asked    sysmon, during its take                 the owner must stay out until this is over
//   gone     the giver of the P: sysmon or owner     the thread has no P [HOLD-3]
//
//   H1  A thread with a hold has a P. It keeps the P until the count is 0 or it is in its bracket.
//   H2  H1 is also true where a hold becomes a park. There in = 1 comes before the count falls. Either
//       in = 1 comes before sysmon's membarrier, and sysmon sees it; or the owner reads `lost` after the
//       membarrier, and finds the take.
//   H3  `barred` is gone while `lost` is gone, and becomes open before `lost` becomes free.
//
// A hold within a hold, or within a bracket, only counts: the outer one keeps the P.
//
// `words` belong to a thread, while an M outlives its threads. So a thread that is about to end removes
// `words` from its M, fences, and waits while `lost` is take. sysmon stores take, fences, and reads
// `words`. [HOLD-2]
#pragma once
#include "sched/protocol/bracket.hpp"

namespace grt::protocol {

enum bar_state : std::uint32_t { open, asked, bar_gone };

/// The same as grt/detail/hold.hpp, for the model. Returns false if the caller must take its count back,
/// call await_hold() and begin again.
template <class A, class W> [[nodiscard]] bool hold(W* words) {
  A::store(words->holds, A::load(words->holds, std::memory_order_relaxed) + 1u, std::memory_order_relaxed);
  A::compiler_fence(site::hold_on_fence); // [HOLD-1] the cheap side; sysmon's membarrier is the fence
  return A::load(words->barred, std::memory_order_relaxed) == std::uint32_t{open};
}

template <class A, class W> void let_loose(W* words) {
  // Relaxed: the locks publish what was done under them.
  A::store(words->holds, A::load(words->holds, std::memory_order_relaxed) - 1u, std::memory_order_relaxed);
}

/// Caller: the owner, outside, after hold() returned false and the count was taken back. Returns false if
/// the caller has no P.
template <class A, class W> [[nodiscard]] bool await_hold(W* words) {
  for (int i = 0;; A::pause(i)) {
    // [HOLD-3] gone: the owner sees what the taker left for it as a detached M
    std::uint32_t b = A::load(words->barred, std::memory_order_acquire, site::hold_gone);
    if (b != asked) return b == open;
  }
}

/// Caller: sysmon, which has stored `take` in m's `lost`. Returns true if m has no hold, is outside, and
/// is asked to stay outside. Otherwise nothing has changed. While m is asked, it can begin neither a
/// bracket nor a hold. So sysmon finds m outside after a short wait, however often m takes locks.
template <class A, class M, class Patience> [[nodiscard]] bool bar(M* m, Patience patient) {
  A::full_fence(site::bar_words);                             // [HOLD-2]
  auto* words = A::load(m->words, std::memory_order_acquire); // [HOLD-2] the words of a new thread, initialised
  if (!words) return false;                                   // the thread is about to end
  A::store(words->barred, std::uint32_t{asked}, std::memory_order_relaxed);
  A::all_threads_fence(site::take_fence); // [BRK-1] [HOLD-1]
  do {                                    // `in` first: a hold may begin in a bracket and outlast it
    if (A::load(m->in, std::memory_order_acquire, site::take_in) == 0u && // [BRK-1]
        A::load(words->holds, std::memory_order_relaxed) == 0u)
      return true;
  } while (patient());
  A::store(words->barred, std::uint32_t{open}, std::memory_order_relaxed);
  return false;
}

/// Caller: sysmon, during its take and after bar(); or m's own thread, which may have no words any more.
template <class A, class M> void set_bar(M* m, bar_state to) {
  auto* words = A::load(m->words, std::memory_order_relaxed);
  if (words) A::store(words->barred, std::uint32_t{to}, std::memory_order_release, site::set_bar); // [HOLD-3]
}

/// Caller: m's own thread, before it ends.
template <class A, class M> void words_go(M* m) {
  A::store(m->words, decltype(A::load(m->words, std::memory_order_relaxed)){nullptr}, std::memory_order_relaxed);
  A::full_fence(site::words_fence); // [HOLD-2]
  int i = 0;
  // [HOLD-2] sysmon has finished writing to the words
  while (A::load(m->lost, std::memory_order_acquire, site::words_lost) == lost_state::take) A::pause(i);
}

} // namespace grt::protocol
