// sched/protocol/drift.hpp - the priority of a detached thread. Templates over the memory (memory.hpp).
//
// An M is detached (in the code: adrift) while its goroutine runs without a P. sysmon lowers the
// priority of some detached threads; handoff.cpp says of which, and why.
//
// An M has the word `drift`. It has three parts: the state; whether the goroutine had announced its
// call; and a count of how often the M was detached. Because of the count, a value never comes back.
//
//   state     set by                    meaning                                  who ends it, and how
//   home      its own thread, once      it has a P, or is about to get one       the taker of its P: to adrift
//   adrift    the taker of its P        without a P, at its own priority         sysmon: to lowering
//                                                                                its own thread: to home
//   lowering  sysmon                    its priority is being changed            sysmon: to lowered
//   lowered   sysmon                    its priority was changed [DRIFT-1]       its own thread: to home
//
// The thread itself goes home before it takes any lock of the runtime or gets a P. From then on it knows
// for good whether it was lowered. It waits while the state is `lowering`. That wait is short: one system
// call of sysmon, whose own priority is not lowered.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum drift_state : std::uint32_t {
  home,
  adrift,
  lowering,
  lowered,
  drift_states = 3,
  drift_announced = 4,
  drift_one = 8
};

/// Caller: the party that takes the P of m, before m can notice.
template <class A, class M> void drift_begins(M* m, bool announced) {
  std::uint32_t w = A::load(m->drift, std::memory_order_relaxed);
  std::uint32_t next = (w & ~std::uint32_t{drift_one - 1}) + drift_one + (announced ? drift_announced : 0u) + adrift;
  A::store(m->drift, next, std::memory_order_release, site::drift_begins); // [DRIFT-1] sysmon sees since when
}

/// Caller: m's own thread. Returns true if the thread had been lowered; only the first call can, because
/// m is home afterwards.
template <class A, class M> [[nodiscard]] bool come_home(M* m) {
  for (int i = 0;;) {
    std::uint32_t w = A::load(m->drift, std::memory_order_relaxed), state = w & drift_states;
    if (state == home) return false;
    if (state == lowering) {
      A::pause(i);
      continue;
    }
    // [DRIFT-1] lowered: the thread sees the priority that it had before
    if (A::cas(m->drift, w, w & ~std::uint32_t{drift_states}, std::memory_order_acquire, site::come_home))
      return state == lowered;
  }
}

/// Caller: sysmon, which has read w with the state adrift. lower() changes the priority. Returns false
/// if m has come home.
template <class A, class M, class Lower> [[nodiscard]] bool lower(M* m, std::uint32_t w, Lower lower) {
  std::uint32_t was = w;
  if (!A::cas(m->drift, was, w + 1u, std::memory_order_relaxed)) return false;
  lower();
  A::store(m->drift, w + 2u, std::memory_order_release, site::lowered); // [DRIFT-1]
  return true;
}

} // namespace grt::protocol
