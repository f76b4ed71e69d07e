// sched/protocol/bracket.hpp - ask, donate, take: who may touch a P, as templates over the memory (memory.hpp).
//
// An M has `in`, `lost` and `thief`. M::lost, the word between the owner of a P and whoever wants some of its work:
//
//   state      set by        meaning                                  leaves by
//   free       -             the owner works alone                    thief: -> ask, sysmon: -> poke or take, all under
//                                                                     the lock of all thieves; owner: -> announced,
//                                                                     gone
//   ask        thief         M::thief wants work                      owner, inside: -> grant or -> free (deny)
//                                                                     thief out of patience: -> take
//   grant      owner         it pushes into the thief's rings         owner: -> free
//   take       thief, sysmon the owner may not enter                  who set it: -> what it was before;
//                                                                     sysmon: -> gone
//   poke       sysmon        somebody has waited long: look around    owner, inside: -> free; thief, sysmon: -> take,
//                                                                     under the lock of all thieves
//   announced  owner         it is in a call that may block, whoever  owner: -> free; thief, sysmon: -> take, under the
//                            wants work need not ask                  lock of all thieves
//   gone       sysmon, owner its P is another M's now (handoff.cpp)   the M itself, once its goroutine has left it:
//                                                                     -> free
//   stopped    halt.cpp      its P is its own, but goroutines stand     the M itself, on g0, or who ends the halt:
//                            still: go to g0 (sched/protocol/halt.hpp)        -> free
//
//   owner: in = 1; compiler barrier; read lost            thief: lost = take; membarrier; read in              [BRK-1]
// One of the two sees the other. The thief sees 0: the owner is outside and will wait in answer(), its P is the thief's
// until that stores free. It sees 1: it gives up, the owner answers at its next bracket. The thief is inside its own
// bracket all the while, so nobody takes from it; it may be asked and denies. What passes from hand to hand goes by
// [LOST-1]; what the owner did inside goes to a taker by in = 0 [BRK-1]. A weakly ordered core may read its queues
// ahead of `lost`, as they were before a thief that came and went meanwhile, and then see `free`: there a thief that
// took lets every core fence again, before it lets go, and the owner's look stays a plain load. [BRK-2] Rejected: two
// states (an asker that times out while the owner donates loses the work); a shared ring with a CAS per pop (2 ns each,
// always).
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum class lost_state : std::uint32_t { free, ask, grant, take, poke, announced, gone, stopped, count };

/// false: not alone, go on with answer().
template <class A, class M> [[nodiscard]] GRT_INLINE bool enter(M* m) {
  A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
  A::compiler_fence(site::enter_fence); // [BRK-1] the cheap half: the thief's membarrier is the fence
  const auto order = A::loads_in_order() ? std::memory_order_acquire : std::memory_order_relaxed; // [BRK-2]
  lost_state l = A::load(m->lost, order, site::enter_lost);
  if (!A::loads_in_order()) A::compiler_fence(site::enter_order); // [BRK-2] who changed the queues fenced for us
  return GRT_LIKELY(l == lost_state::free);
}

template <class A, class M> GRT_INLINE void leave(M* m) {
  // [BRK-1] the thief that sees 0 sees what was done inside
  A::store(m->in, std::uint32_t{0}, std::memory_order_release, site::leave_in);
}

/// Owner. Inside on return, whatever `lost` was, or false: gone or stopped. donate(): moves work to m->thief. ended(l):
/// `l`, poke or announced, is over.
template <class A, class M, class Donate, class Ended>
[[nodiscard]] GRT_INLINE bool answer(M* m, Donate donate, Ended ended) {
  for (int i = 0;;) {
    A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
    A::compiler_fence(site::answer_fence); // [BRK-1]
    // [LOST-1] sees what the thief left in the queues
    lost_state l = A::load(m->lost, std::memory_order_acquire, site::answer_lost);
    if (l == lost_state::free) return true;
    if (l == lost_state::poke || l == lost_state::announced) {
      // orders nothing: the next look does
      if (A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed)) ended(l);
      continue;
    }
    if (l == lost_state::ask) {
      // [LOST-1] perhaps another thief's `ask` by now
      if (!A::cas(m->lost, l, lost_state::grant, std::memory_order_acquire, site::answer_grant)) continue;
      donate();
      // [LOST-1] the thief sees its rings filled
      A::store(m->lost, lost_state::free, std::memory_order_release, site::answer_done);
      continue;
    }
    A::store(m->in, std::uint32_t{0}, std::memory_order_release, site::answer_out); // [BRK-1] take: stay out
    if (l == lost_state::gone || l == lost_state::stopped) return false;
    while (A::load(m->lost, std::memory_order_relaxed) == lost_state::take) A::pause(i);
  }
}

/// Owner, inside, with nothing to give. What has ended by that: an ask, a poke, or `free`: nothing.
template <class A, class M> GRT_INLINE lost_state deny(M* m) {
  lost_state l = A::load(m->lost, std::memory_order_relaxed);
  if (GRT_LIKELY(l != lost_state::ask && l != lost_state::poke)) return lost_state::free;
  return A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed) ? l : lost_state::free;
}

/// Thief, inside its own bracket. false: another one is there.
template <class A, class M, class P> [[nodiscard]] GRT_INLINE bool ask(M* victim, P* mine, typename A::lock& thieves) {
  if (!thieves.try_lock()) return false;
  // [LOST-1] who was answered before is done with `thief`
  bool asked = A::load(victim->lost, std::memory_order_acquire, site::ask_look) == lost_state::free;
  if (asked) {
    victim->thief = mine;
    lost_state l = lost_state::free;
    // [LOST-1] but for the owner, nobody leaves `free` without `thieves`
    asked = A::cas(victim->lost, l, lost_state::ask, std::memory_order_release, site::ask);
  }
  thieves.unlock();
  return asked;
}

/// Thief, after ask(). false: answered. true: `lost` is `take`, let_go() must follow.
template <class A, class M, class Patience> [[nodiscard]] GRT_INLINE bool take(M* victim, Patience patient) {
  int i = 0;
  while (A::load(victim->lost, std::memory_order_relaxed) == lost_state::ask && patient()) A::relax();
  lost_state l = lost_state::ask;
  // [LOST-1] if it fails: answered, our rings are filled
  if (A::cas(victim->lost, l, lost_state::take, std::memory_order_acquire, site::take)) return true;
  if (l == lost_state::grant) // [LOST-1]
    while (A::load(victim->lost, std::memory_order_acquire, site::grant_wait) == lost_state::grant) A::pause(i);
  return false;
}

/// Thief that need not ask, or sysmon. false: the state is no longer `was`. true: `lost` is `take`, let_go() must
/// follow.
template <class A, class M> [[nodiscard]] GRT_INLINE bool seize(M* victim, lost_state was, typename A::lock& thieves) {
  typename A::guard hold(thieves);
  return A::cas(victim->lost, was, lost_state::take, std::memory_order_acquire, site::take); // [LOST-1]
}

/// Thief, after take() or seize() said true. Is the owner outside, its P the caller's until let_go()?
template <class A, class M> [[nodiscard]] GRT_INLINE bool shut_out(M* victim) {
  A::all_threads_fence(site::take_fence);                                                   // [BRK-1]
  return A::load(victim->in, std::memory_order_acquire, site::take_in) == std::uint32_t{0}; // [BRK-1]
}

/// touched: it was, and was used.
template <class A, class M> GRT_INLINE void let_go(M* victim, bool touched, lost_state to = lost_state::free) {
  if (touched && !A::loads_in_order()) A::all_threads_fence(site::take_publish); // [BRK-2]
  A::store(victim->lost, to, std::memory_order_release, site::take_done);        // [LOST-1]
}

/// Thief, inside. plunder(): what follows take(), let_go() included. size(): of its own rings. true: they grew. That is
/// asked last, also where it took in vain: it may have been answered before, and have taken another thief's `ask`.
template <class A, class M, class P, class Patience, class Plunder, class Size>
[[nodiscard]] GRT_INLINE bool rob(M* victim, P* mine, typename A::lock& thieves, Patience patient, Plunder plunder,
                                  Size size) {
  auto had = size();
  if (!ask<A>(victim, mine, thieves)) return false;
  if (take<A>(victim, patient)) plunder();
  return size() > had;
}

} // namespace grt::protocol
