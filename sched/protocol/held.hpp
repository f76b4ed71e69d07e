// sched/protocol/held.hpp - what parks, wakes and picks owe to the scavenger, as templates over the memory
// (memory.hpp).
//
// The states of G::held, and why nobody switches to a goroutine whose pages are being dropped: scavenge.cpp, H1 to H4.
//
//   park:   sp = not_saved; reason = why [HELD-1]       scavenger:  held = held_by_scavenger; membarrier [HELD-2]; read reason
//   ready:  reason = none; compiler barrier [HELD-2]                [HELD-1]; read sp; drop
//   picker: read held; run it
//
// One of the two sees the other: the picker that finds nobody has made `none` visible to the membarrier. That the pages
// were dropped before `held` said nobody is the kernel's to see to: madvise returns when no core can use them any more,
// and a picker stores to them only after it has read `held`.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum held_state : std::uint8_t { not_held, held_by_scavenger, held_and_wanted };

/// Owner, once its waiter is published, before the switch, which stores the true sp once nobody stands below it.
template <class A, class G, class Sp, class Why> GRT_INLINE void is_parking(G* g, Sp not_saved, Why why) {
  A::store(g->sp, not_saved, std::memory_order_relaxed);
  A::store(g->reason, why, std::memory_order_release, site::park_reason); // [HELD-1] who sees it sees sp of this park
}

/// Whoever has taken g out of its queue, before it pushes it.
template <class A, class G, class Why> GRT_INLINE void is_runnable(G* g, Why none) {
  A::store(g->reason, none, std::memory_order_relaxed);
  A::compiler_fence(site::ready_fence); // [HELD-2] before any look at `held`; the scavenger's membarrier is the fence
}

/// g0, which has picked g and found it held. true: the scavenger makes it runnable again. false: it may run now.
template <class A, class G> [[nodiscard]] bool leave_to_holder(G* g) {
  std::uint8_t was = held_by_scavenger;
  // [HELD-3] what was done with it up to here is the holder's to see, who links it again
  return A::cas(g->held, was, std::uint8_t{held_and_wanted}, std::memory_order_release, site::held_leave);
}

/// Scavenger. From here on nobody switches to those of them that are parked.
template <class A, class G> void hold(G* const* gs, unsigned n) {
  for (unsigned i = 0; i < n; i++) A::store(gs[i]->held, std::uint8_t{held_by_scavenger}, std::memory_order_relaxed);
  A::all_threads_fence(site::hold_fence); // [HELD-2]
}

/// Scavenger. Where the registers of parked g stand; not_saved: it is not parked, or not yet. A guess, unless it is
/// held.
template <class A, class G, class Sp, class Why> Sp saved_sp(const G* g, Sp not_saved, Why none) {
  // [HELD-1] sp is of this park
  if (A::load(g->reason, std::memory_order_acquire, site::held_reason) == none) return not_saved;
  return A::load(g->sp, std::memory_order_relaxed);
}

/// Scavenger. true: somebody has picked it meanwhile, and leaves it to the caller to make it runnable.
template <class A, class G> [[nodiscard]] bool let_go_of(G* g) {
  // [HELD-3] release: g0 that finds nobody after all
  return A::exchange(g->held, std::uint8_t{not_held}, std::memory_order_acq_rel, site::held_let_go) == held_and_wanted;
}

} // namespace grt::protocol
