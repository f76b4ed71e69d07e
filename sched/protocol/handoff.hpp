// sched/protocol/handoff.hpp - how a P gets another M, as templates over the memory (memory.hpp). Who decides it and
// what a goroutine without a P may do: handoff.cpp; pinned goroutines: pin.cpp.
//
// An M has `p`, `turn`, `rest_next` and what the bracket needs; a P has `m`.
//
//   T1  An M without a P stands in one list, or one party has taken it from there, or its goroutine still runs.
//   T2  `turn` is set only by whoever has taken it, once, and reset by the M itself before it stands in a list again.
//
//   giver:  to->p = P; P->m = to   [LEND-2]; lost = gone; to->turn = 1 [LEND-1]
//   to:     turn == 1 [LEND-1]: inside, with `p`
//   thief:  reads P->m [LEND-2], perhaps the one before: its bracket is another's by now, or none's. The first stands
//           in `gone` until its goroutine has left it, and is inside from then on; with another P, `p` tells.
//
// Whoever rests for long ends, and its slot waits for a new thread: it leaves the list under the lock, where nobody can
// have given it a turn.
//
// A keeper (pin.cpp) has `vacant`, a futex word: who may lend it a P.
//
//   vacant    set by                                meaning
//   free      the keeper, when it holds no P [LEND-3]  the next lender may claim it
//   claimed   a lender that found it free           it holds a P, or is about to
//   wanted    a lender that found it claimed        the same, and that lender sleeps: the keeper wakes it
//
// A keeper that is claimed becomes free as soon as its thread gets a core: between its goroutine's park and that it
// does not wait for anything. A lender that sleeps leaves it that core. A lender that has slept claims by `wanted`,
// which costs the keeper one needless wake at the most.
//
// A P beyond procs keeps its M, which sleeps in no list (retire); set_procs wakes it.
//
//   M:          asleep = deep; fence; read procs          [RETIRE-1]
//   set_procs:  procs = n; fence; read P->m, its asleep   [RETIRE-1]
//
// One of the two sees the other, whichever M the P was given to last.
#pragma once
#include "sched/protocol/bracket.hpp"
#include "sched/protocol/hold.hpp"
#include "sched/protocol/sleep.hpp"

namespace grt::protocol {

template <class A, class M> GRT_INLINE void give_turn(M* m) {
  A::store(m->turn, std::uint32_t{1}, std::memory_order_release, site::give_turn); // [LEND-1] with all it needs
  A::futex_wake(m->turn);
}

template <class A, class M> [[nodiscard]] GRT_INLINE bool has_turn(M* m) {
  return A::load(m->turn, std::memory_order_acquire, site::await_turn) != std::uint32_t{0}; // [LEND-1]
}

template <class A, class M> GRT_INLINE void await_turn(M* m) {
  while (!has_turn<A>(m)) A::futex_wait(m->turn, 0);
  A::store(m->turn, std::uint32_t{0}, std::memory_order_relaxed);
}

enum vacancy : std::uint32_t { claimed, vacant, wanted };

/// A lender. Returns when the keeper is its own: p, lend and lender are its to write.
template <class A, class M> GRT_INLINE void claim_keeper(M* keeper) {
  std::uint32_t was = vacant;
  if (A::cas(keeper->vacant, was, std::uint32_t{claimed}, std::memory_order_acquire, site::claim_keeper)) // [LEND-3]
    return;
  // [LEND-3]
  while (A::exchange(keeper->vacant, std::uint32_t{wanted}, std::memory_order_acquire, site::claim_keeper) != vacant)
    A::futex_wait(keeper->vacant, wanted);
}

/// The keeper, which holds no P any more.
template <class A, class M> GRT_INLINE void vacate_keeper(M* keeper) {
  // [LEND-3] p, lend and lender are the next one's to write
  if (A::exchange(keeper->vacant, std::uint32_t{vacant}, std::memory_order_release, site::vacate_keeper) == wanted)
    A::futex_wake(keeper->vacant);
}

template <class A, class P, class M> GRT_INLINE void set_holder(P* p, M* m) {
  A::store(p->m, m, std::memory_order_release, site::set_holder); // [LEND-2] a thief that asks m finds it made
}

template <class A, class P> GRT_INLINE auto holder_of(P* p) {
  return A::load(p->m, std::memory_order_acquire, site::holder_of); // [LEND-2]
}

/// Whoever owns p, by `take` or as its M. `to` has been taken from its list, and gets its turn next.
template <class A, class P, class M> GRT_INLINE void give(P* p, M* to) {
  to->p = p;
  set_holder<A>(p, to);
}

/// Thief that took for what it found on p: as shut_out(), if p is still the victim's.
template <class A, class M, class P> [[nodiscard]] GRT_INLINE bool shut_out(M* victim, P* p) {
  return shut_out<A>(victim) && victim->p == p;
}

/// Sysmon, with m the holder of p that it saw. patient(): whether to go on waiting for m to be outside. good(): asked
/// then. begins(): leaves what m must find once it is adrift, and has the last word on `to`. true: `to` has p, but not
/// yet its turn.
template <class A, class P, class M, class Good, class Begins, class Patience>
[[nodiscard]] GRT_INLINE bool take_for(P* p, M* m, lost_state was, M*& to, typename A::lock& thieves, Good good,
                                       Begins begins, Patience patient) {
  if (!seize<A>(m, was, thieves)) return false;
  bool mine = bar<A>(m, patient);
  if (mine && !(A::load(p->m, std::memory_order_relaxed) == m && good())) {
    set_bar<A>(m, open);
    mine = false;
  }
  if (mine) {
    begins();
    give<A>(p, to);
    set_bar<A>(m, bar_gone); // H3
  }
  let_go<A>(m, mine, mine ? lost_state::gone : was);
  return mine;
}

/// Owner, inside: announced or gone, whatever others want meanwhile. false: goroutines stand still, nothing was done.
template <class A, class M> [[nodiscard]] GRT_INLINE bool step_aside(M* m, lost_state to) {
  for (int i = 0;;) {
    lost_state l = lost_state::free;
    // what it did inside goes by `in` or by the turn
    if (A::cas(m->lost, l, to, std::memory_order_relaxed)) {
      if (to == lost_state::gone) set_bar<A>(m, bar_gone);
      return true;
    }
    if (l == lost_state::stopped) return false;
    deny<A>(m);
    while (A::load(m->lost, std::memory_order_relaxed) == lost_state::take) A::pause(i);
  }
}

/// Owner, outside, after announced. announced: it was to the end. gone: it has no P. stopped: its next bracket says no.
template <class A, class M> GRT_INLINE lost_state step_back(M* m) {
  for (int i = 0;; A::pause(i)) {
    // [LOST-1] gone: it sees what it is to find adrift. free: the next bracket orders
    lost_state l = A::load(m->lost, std::memory_order_acquire, site::step_back);
    if (l == lost_state::announced &&
        A::cas(m->lost, l, lost_state::free, std::memory_order_acquire, site::step_back)) // [LOST-1]
      return lost_state::announced;
    if (l != lost_state::announced && l != lost_state::take) return l;
  }
}

/// g0, without a P: its goroutine has left it.
template <class A, class M> GRT_INLINE void is_back(M* m) {
  A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
  set_bar<A>(m, open); // H3
  // [LOST-1] inside for good: a late thief gives up
  A::store(m->lost, lost_state::free, std::memory_order_release, site::is_back);
}

template <class A, class M> class resters {
  template <class T> using plain = typename A::template plain<T>;
  using guard = typename A::guard;

public:
  typename A::lock lock;

  /// One at rest, or one whose thread has ended: then the caller starts a new one, which awaits its turn.
  M* take(bool& has_thread) {
    guard hold(lock);
    M* m = resting;
    has_thread = m;
    if (m) {
      resting = m->rest_next;
      return m;
    }
    m = A::load(threadless, std::memory_order_acquire, site::take_threadless); // [REST-1] with all it has left
    // nobody else takes from there, so what stands behind m stays
    while (m &&
           !A::cas(threadless, m, static_cast<M*>(m->rest_next), std::memory_order_acquire, site::take_threadless)) {
    } // [REST-1]
    return m;
  }

  /// Lock held.
  void put(M* m) {
    m->rest_next = resting;
    resting = m;
  }

  /// One that has no thread, or whose thread does nothing with it any more. Takes no lock: that thread may have a low
  /// priority.
  void put_threadless(M* m) {
    M* head = A::load(threadless, std::memory_order_relaxed);
    do m->rest_next = head;
    while (!A::cas(threadless, head, m, std::memory_order_release, site::put_threadless)); // [REST-1]
  }

  /// m stands in the list. false: nobody has given it anything for `ns`, and its thread ends; it may belong to another
  /// one already. ends(): called before that.
  template <class Ends> [[nodiscard]] bool await_turn_for(M* m, std::int64_t ns, Ends ends) {
    while (!has_turn<A>(m)) {
      A::futex_wait_for(m->turn, 0, ns);
      if (has_turn<A>(m)) break;
      guard hold(lock);
      plain<M*>* at = &resting;
      while (*at && *at != m) at = &static_cast<M*>(*at)->rest_next;
      if (!*at) continue; // taken from the list: its turn is coming
      *at = static_cast<M*>(m->rest_next);
      ends();
      put_threadless(m);
      return false;
    }
    A::store(m->turn, std::uint32_t{0}, std::memory_order_relaxed);
    return true;
  }

  plain<M*> resting{nullptr};
  typename A::template atomic<M*> threadless{nullptr}; // [REST-1] a thief may still look at them
};

// ---- Retirement. An M has `asleep`.

/// With nothing left on its P. false: procs has grown meanwhile. true: it may sleep while `asleep` is deep.
template <class A, class M, class N> [[nodiscard]] bool may_retire(M* m, unsigned id, const N& procs) {
  A::store(m->asleep, std::uint32_t{deep}, std::memory_order_relaxed);
  A::full_fence(site::retire_fence); // [RETIRE-1]
  return id >= A::load(procs, std::memory_order_relaxed);
}

template <class A, class N> void set_limit(N& procs, unsigned n) {
  A::store(procs, n, std::memory_order_relaxed);
  A::full_fence(site::procs_fence); // [RETIRE-1] before wake_retired
}

/// After set_limit. Whoever retired looks again; one that only sleeps does, too, and sleeps on.
template <class A, class P> void wake_retired(P* p) {
  auto* m = holder_of<A>(p);
  std::uint32_t was = deep;
  A::cas(m->asleep, was, std::uint32_t{napping}, std::memory_order_relaxed);
  A::futex_wake(m->asleep);
}

} // namespace grt::protocol
