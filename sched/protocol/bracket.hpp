// sched/protocol/bracket.hpp - ask, donate, take: who may touch the queues of a P. Templates over the
// memory (memory.hpp).
//
// The owner of a P is the M that holds it. The owner touches the queues of its P only inside the
// bracket, that is, between enter() and leave(). A thief is an M that wants goroutines of another P.
// The owner serves its request, or the thief locks the owner out and takes them itself.
//
// An M has three words:
//   in     1 while the M is inside its bracket
//   lost   the claim word: what others want of this P, or have done to it
//   thief  the P that asked for goroutines; valid while `lost` is ask or grant
//
// The states of M::lost. "Locked": the step needs the lock of all thieves.
//
//   state      set by         meaning                              who ends it, and how
//   free       -              the owner works alone                thief: to ask (locked)
//                                                                  sysmon: to poke or take (locked)
//                                                                  owner: to announced or gone
//   ask        thief          M::thief wants work                  owner, inside: to grant, or to free (deny)
//                                                                  thief out of patience: to take
//   grant      owner          it pushes into the thief's queue     owner: to free
//   take       thief, sysmon  the owner may not enter              the one that set it: to the state before
//                                                                  sysmon: to gone
//   poke       sysmon         reschedule request: somebody has     owner, inside: to free
//                             waited long, so end the slice        thief, sysmon: to take (locked)
//   announced  owner          the owner is in a call that may      owner: to free
//                             block; a thief need not ask          thief, sysmon: to take (locked)
//   gone       sysmon, owner  its P belongs to another M now       the M itself, once its goroutine has left
//                             (handoff.cpp)                        it: to free
//   stopped    halt.cpp       the M keeps its P, but goroutines    the M itself, on g0, or the thread that
//                             stand still: go to g0 (halt.hpp)     ends the halt: to free
//
// Entering and taking:
//
//   owner: in = 1; compiler barrier; read lost       thief: lost = take; membarrier; read in     [BRK-1]
//
// One of the two sees the other:
//   The thief reads 0. The owner is outside, and its next bracket will wait in answer(). The P belongs
//   to the thief until the thief stores the next state.
//   The thief reads 1. It gives up and stores the state back. The owner goes on at its next bracket.
//
// The thief is inside its own bracket all the while, so nobody can take from it. It can be asked, and
// then it denies. [LOST-1] orders what passes from hand to hand through the claim word. The store
// in = 0 orders what the owner did inside before what a taker does. [BRK-1]
//
// A weakly ordered core may read its queues before it reads `lost`. It could then see the queues as they
// were before a thief came and went, and still read `free`. So on such cores a thief that took calls
// membarrier again before it releases the P, and the owner's load of `lost` stays a plain load. [BRK-2]
//
// Rejected: two states only. A thief that times out while the owner donates would lose the work.
// Rejected: a shared ring with a compare-and-swap per pop. It costs 2 ns each time.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum class lost_state : std::uint32_t { free, ask, grant, take, poke, announced, gone, stopped, count };

/// Returns false if `lost` is not free. The caller then goes on with answer().
template <class A, class M> [[nodiscard]] GRT_INLINE bool enter(M* m) {
  A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
  A::compiler_fence(site::enter_fence); // [BRK-1] the cheap side; the thief's membarrier is the fence
  const auto order = A::loads_in_order() ? std::memory_order_acquire : std::memory_order_relaxed; // [BRK-2]
  lost_state l = A::load(m->lost, order, site::enter_lost);
  if (!A::loads_in_order()) A::compiler_fence(site::enter_order); // [BRK-2] the taker fenced for us
  return GRT_LIKELY(l == lost_state::free);
}

template <class A, class M> GRT_INLINE void leave(M* m) {
  // [BRK-1] a thief that reads 0 sees what was done inside
  A::store(m->in, std::uint32_t{0}, std::memory_order_release, site::leave_in);
}

/// Caller: the owner. Serves what is in `lost`, then returns true with the owner inside. Returns false,
/// outside, if `lost` is gone or stopped. donate() moves work to m->thief. ended(l) is called when the
/// state l, which is poke or announced, is over.
template <class A, class M, class Donate, class Ended>
[[nodiscard]] GRT_INLINE bool answer(M* m, Donate donate, Ended ended) {
  for (int i = 0;;) {
    A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
    A::compiler_fence(site::answer_fence); // [BRK-1]
    // [LOST-1] sees what the thief left in the queues
    lost_state l = A::load(m->lost, std::memory_order_acquire, site::answer_lost);
    if (l == lost_state::free) return true;
    if (l == lost_state::poke || l == lost_state::announced) {
      // Relaxed: the load in the next iteration acquires.
      if (A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed)) ended(l);
      continue;
    }
    if (l == lost_state::ask) {
      // [LOST-1] acquire again: this may be the request of another thief than the one read above
      if (!A::cas(m->lost, l, lost_state::grant, std::memory_order_acquire, site::answer_grant)) continue;
      donate();
      // [LOST-1] the thief sees its queue filled
      A::store(m->lost, lost_state::free, std::memory_order_release, site::answer_done);
      continue;
    }
    A::store(m->in, std::uint32_t{0}, std::memory_order_release, site::answer_out); // [BRK-1] take: stay out
    if (l == lost_state::gone || l == lost_state::stopped) return false;
    while (A::load(m->lost, std::memory_order_relaxed) == lost_state::take) A::pause(i);
  }
}

/// Caller: the owner, inside, with nothing to give. Ends an ask or a poke. Returns the state that it
/// ended, or free if it ended none.
template <class A, class M> GRT_INLINE lost_state deny(M* m) {
  lost_state l = A::load(m->lost, std::memory_order_relaxed);
  if (GRT_LIKELY(l != lost_state::ask && l != lost_state::poke)) return lost_state::free;
  return A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed) ? l : lost_state::free;
}

/// Caller: a thief, inside its own bracket. Returns false if another party is busy with the victim.
template <class A, class M, class P> [[nodiscard]] GRT_INLINE bool ask(M* victim, P* mine, typename A::lock& thieves) {
  if (!thieves.try_lock()) return false;
  // [LOST-1] an owner that answered an earlier thief is done with `thief`
  bool asked = A::load(victim->lost, std::memory_order_acquire, site::ask_look) == lost_state::free;
  if (asked) {
    victim->thief = mine;
    lost_state l = lost_state::free;
    // [LOST-1] only the owner may change `free` without the lock `thieves`
    asked = A::cas(victim->lost, l, lost_state::ask, std::memory_order_release, site::ask);
  }
  thieves.unlock();
  return asked;
}

/// Caller: the thief, after ask(). Returns false if the owner answered. Returns true if `lost` is now
/// take; let_go() must follow.
template <class A, class M, class Patience> [[nodiscard]] GRT_INLINE bool take(M* victim, Patience patient) {
  int i = 0;
  while (A::load(victim->lost, std::memory_order_relaxed) == lost_state::ask && patient()) A::relax();
  lost_state l = lost_state::ask;
  // [LOST-1] if the exchange fails, the owner has answered and our queue is filled
  if (A::cas(victim->lost, l, lost_state::take, std::memory_order_acquire, site::take)) return true;
  if (l == lost_state::grant) // [LOST-1]
    while (A::load(victim->lost, std::memory_order_acquire, site::grant_wait) == lost_state::grant) A::pause(i);
  return false;
}

/// Caller: sysmon, the halt, or a thief that need not ask. Returns false if the state is no longer `was`.
/// Returns true if `lost` is now take; let_go() must follow.
template <class A, class M> [[nodiscard]] GRT_INLINE bool seize(M* victim, lost_state was, typename A::lock& thieves) {
  typename A::guard hold(thieves);
  return A::cas(victim->lost, was, lost_state::take, std::memory_order_acquire, site::take); // [LOST-1]
}

/// Caller: a thief, after take() or seize() returned true. Returns whether the owner is outside. If it
/// is, the P belongs to the caller until let_go().
template <class A, class M> [[nodiscard]] GRT_INLINE bool shut_out(M* victim) {
  A::all_threads_fence(site::take_fence);                                                   // [BRK-1]
  return A::load(victim->in, std::memory_order_acquire, site::take_in) == std::uint32_t{0}; // [BRK-1]
}

/// Releases the claim word. `touched`: shut_out() returned true and the caller used the P.
template <class A, class M> GRT_INLINE void let_go(M* victim, bool touched, lost_state to = lost_state::free) {
  if (touched && !A::loads_in_order()) A::all_threads_fence(site::take_publish); // [BRK-2]
  A::store(victim->lost, to, std::memory_order_release, site::take_done);        // [LOST-1]
}

/// Caller: a thief, inside. plunder() is what follows a successful take(), with let_go(). size() is the
/// size of the thief's own queue. Returns whether that has grown. The size is compared last, even after
/// a take that found nothing: the owner may have answered this thief already, so that the `ask` which
/// take() replaced was another thief's.
template <class A, class M, class P, class Patience, class Plunder, class Size>
[[nodiscard]] GRT_INLINE bool rob(M* victim, P* mine, typename A::lock& thieves, Patience patient, Plunder plunder,
                                  Size size) {
  auto had = size();
  if (!ask<A>(victim, mine, thieves)) return false;
  if (take<A>(victim, patient)) plunder();
  return size() > had;
}

} // namespace grt::protocol
