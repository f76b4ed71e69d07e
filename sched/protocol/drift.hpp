// sched/protocol/drift.hpp - the priority of a thread whose goroutine has no P, as templates over the memory
// (memory.hpp). Who is lowered, and why: handoff.cpp.
//
// An M has `drift`, a word of three parts: the state; whether the goroutine had announced its call; how often it has
// gone adrift, so that a word never comes back.
//
//   state     set by                                    meaning                               leaves by
//   home      its own thread, once                      it has a P, or is on its way to one   who takes its P: ->
//   adrift adrift    who takes its P                           without a P, at its priority          sysmon: ->
//   lowering; -> home lowering  sysmon                                    its priority is being changed         sysmon:
//   -> lowered lowered   sysmon                                    and has been [DRIFT-1]                -> home
//
// Its own thread goes home before it takes any lock of the runtime or gets a P, and knows then, for good, whether it
// was lowered: it waits out `lowering`, which is one system call of a thread that has its priority.
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

/// Who takes m's P, before m can find out.
template <class A, class M> void drift_begins(M* m, bool announced) {
  std::uint32_t w = A::load(m->drift, std::memory_order_relaxed);
  std::uint32_t next = (w & ~std::uint32_t{drift_one - 1}) + drift_one + (announced ? drift_announced : 0u) + adrift;
  A::store(m->drift, next, std::memory_order_release, site::drift_begins); // [DRIFT-1] since when, for sysmon
}

/// m's own thread. true: it had been lowered. Once only: from then on it is home.
template <class A, class M> [[nodiscard]] bool come_home(M* m) {
  for (int i = 0;;) {
    std::uint32_t w = A::load(m->drift, std::memory_order_relaxed), state = w & drift_states;
    if (state == home) return false;
    if (state == lowering) {
      A::pause(i);
      continue;
    }
    // [DRIFT-1] lowered: from what it was
    if (A::cas(m->drift, w, w & ~std::uint32_t{drift_states}, std::memory_order_acquire, site::come_home))
      return state == lowered;
  }
}

/// Sysmon, which has read w, an `adrift`. lower(): does it. false: m has come home.
template <class A, class M, class Lower> [[nodiscard]] bool lower(M* m, std::uint32_t w, Lower lower) {
  std::uint32_t was = w;
  if (!A::cas(m->drift, was, w + 1u, std::memory_order_relaxed)) return false;
  lower();
  A::store(m->drift, w + 2u, std::memory_order_release, site::lowered); // [DRIFT-1]
  return true;
}

} // namespace grt::protocol
