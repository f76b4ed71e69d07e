// sched/protocol/held.hpp - the scavenger claims parked goroutines, to drop pages of their stacks: what
// park, ready and pick must do for that. Templates over the memory (memory.hpp).
//
// sched/monitor/scavenge.cpp says, in H1 to H4, why nobody switches to a goroutine whose pages are being
// dropped. G::held has these states:
//
//   not_held           nobody has claimed the goroutine
//   held_by_scavenger  the scavenger has claimed it; it must not run
//   held_and_wanted    the same, and g0 has picked it: the scavenger makes it runnable again
//
//   park:   sp = not_saved; reason = why [HELD-1]
//   ready:  reason = none; compiler barrier [HELD-2]
//   picker: read held; run it
//   scavenger: held = held_by_scavenger; membarrier [HELD-2]; read reason [HELD-1]; read sp; drop pages
//
// Picker and scavenger: one of the two sees the other. If the picker reads not_held, then reason = none
// was visible before the membarrier, and the scavenger sees it.
//
// No fence is needed between dropping the pages and clearing `held`. madvise() returns only when no core
// can still use the old pages, and a picker writes to the stack only after it has read `held`.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum held_state : std::uint8_t { not_held, held_by_scavenger, held_and_wanted };

/// Caller: the parking goroutine g, after its waiter is published and before the switch. The switch stores
/// the real sp after the thread has left the stack.
template <class A, class G, class Sp, class Why> GRT_INLINE void is_parking(G* g, Sp not_saved, Why why) {
  A::store(g->sp, not_saved, std::memory_order_relaxed);
  A::store(g->reason, why, std::memory_order_release, site::park_reason); // [HELD-1] publishes the sp of this park
}

/// Caller: the thread that took g out of the place where it waited, before it queues g to run.
template <class A, class G, class Why> GRT_INLINE void is_runnable(G* g, Why none) {
  A::store(g->reason, none, std::memory_order_relaxed);
  A::compiler_fence(site::ready_fence); // [HELD-2] before any read of `held`; the scavenger's membarrier is the fence
}

/// Caller: g0, which has picked g and found it held. Returns true if the scavenger will make g runnable
/// again. Returns false if g may run now.
template <class A, class G> [[nodiscard]] bool leave_to_holder(G* g) {
  std::uint8_t was = held_by_scavenger;
  // [HELD-3] the scavenger, which links g again, sees what was done with g until here
  return A::cas(g->held, was, std::uint8_t{held_and_wanted}, std::memory_order_release, site::held_leave);
}

/// Caller: the scavenger. From here on nobody switches to those of gs that are parked.
template <class A, class G> void hold(G* const* gs, unsigned n) {
  for (unsigned i = 0; i < n; i++) A::store(gs[i]->held, std::uint8_t{held_by_scavenger}, std::memory_order_relaxed);
  A::all_threads_fence(site::hold_fence); // [HELD-2]
}

/// Caller: the scavenger. Returns the address of the saved registers of g, or not_saved if g is not parked
/// or has not reached the switch. The answer is a guess unless g is held.
template <class A, class G, class Sp, class Why> Sp saved_sp(const G* g, Sp not_saved, Why none) {
  // [HELD-1] sp is the one of this park
  if (A::load(g->reason, std::memory_order_acquire, site::held_reason) == none) return not_saved;
  return A::load(g->sp, std::memory_order_relaxed);
}

/// Caller: the scavenger. Releases g. Returns true if g0 has picked g meanwhile; then the caller must make
/// g runnable.
template <class A, class G> [[nodiscard]] bool let_go_of(G* g) {
  // [HELD-3] release, for a g0 that reads not_held after all; acquire, for what g0 did with g before
  return A::exchange(g->held, std::uint8_t{not_held}, std::memory_order_acq_rel, site::held_let_go) == held_and_wanted;
}

} // namespace grt::protocol
