// sched/protocol/handoff.hpp - how a P gets another M. Templates over the memory (memory.hpp).
// sched/monitor/handoff.cpp says who decides it and what a goroutine without a P may do. Pinned
// goroutines: sched/core/pin.cpp.
//
// An M has `p`, `turn`, `rest_next` and the words that the bracket needs. A P has `m`, its holder.
// `turn` is a futex word on which an M waits until it is given a P. To give an M its turn is to set it.
//
//   T1  An M without a P is in exactly one list, or one party has taken it out of the list, or its
//       goroutine still runs.
//   T2  Only the party that took the M out of its list sets `turn`, once. The M itself resets it before
//       it enters a list again.
//
//   giver:  to->p = P; P->m = to   [LEND-2]; lost = gone; to->turn = 1 [LEND-1]
//   to:     turn == 1 [LEND-1]: inside, with `p`
//   thief:  reads P->m [LEND-2]; this may still be the former holder
//
// The former holder's bracket guards another P by now, or none. The thief notices in either case:
//   - As long as the goroutine of the former holder has not left it, its `lost` is gone.
//   - From then on it is inside, so the thief gives up.
//   - If it has got another P, its `p` is no longer the P that the thief looked at.
//
// An M that has rested for long ends its thread, and its slot waits for a new thread. It leaves the list
// under the lock, at a moment when nobody can have given it a turn.
//
// A locked M (pin.cpp; in the code: keeper) runs one pinned goroutine and has no P. A lending M (lender)
// lends it one. The keeper's futex word `vacant` says who may do so:
//
//   state    set by                                    meaning
//   vacant   the keeper, when it holds no P [LEND-3]   the next lender may claim it
//   claimed  a lender that found it vacant             the keeper holds a P, or is about to
//   wanted   a lender that found it claimed            the same; that lender sleeps, the keeper wakes it
//
// A claimed keeper becomes vacant as soon as its thread gets a core: after its goroutine has parked, the
// keeper waits for nothing else. A lender that sleeps leaves it that core. A lender that has slept claims
// the keeper by storing `wanted` rather than `claimed`. This costs the keeper at most one needless wake.
//
// A P whose number is not below procs is retired. It keeps its M, which sleeps in no list. set_procs
// wakes it.
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
  A::store(m->turn, std::uint32_t{1}, std::memory_order_release,
           site::give_turn); // [LEND-1] publishes all that m needs
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

/// Caller: a lender. Returns when it has claimed the keeper and may write the keeper's p, lend and lender.
template <class A, class M> GRT_INLINE void claim_keeper(M* keeper) {
  std::uint32_t was = vacant;
  if (A::cas(keeper->vacant, was, std::uint32_t{claimed}, std::memory_order_acquire, site::claim_keeper)) // [LEND-3]
    return;
  // [LEND-3]
  while (A::exchange(keeper->vacant, std::uint32_t{wanted}, std::memory_order_acquire, site::claim_keeper) != vacant)
    A::futex_wait(keeper->vacant, wanted);
}

/// Caller: the keeper, which no longer holds a P.
template <class A, class M> GRT_INLINE void vacate_keeper(M* keeper) {
  // [LEND-3] from here on the next lender may write p, lend and lender
  if (A::exchange(keeper->vacant, std::uint32_t{vacant}, std::memory_order_release, site::vacate_keeper) == wanted)
    A::futex_wake(keeper->vacant);
}

template <class A, class P, class M> GRT_INLINE void set_holder(P* p, M* m) {
  A::store(p->m, m, std::memory_order_release, site::set_holder); // [LEND-2] a thief sees m initialised
}

template <class A, class P> GRT_INLINE auto holder_of(P* p) {
  return A::load(p->m, std::memory_order_acquire, site::holder_of); // [LEND-2]
}

/// Caller: owns p, as its M or by `take`. `to` has been taken from its list; the caller gives it its turn
/// next.
template <class A, class P, class M> GRT_INLINE void give(P* p, M* to) {
  to->p = p;
  set_holder<A>(p, to);
}

/// Caller: a thief that took because of what it saw on p. Like shut_out() of bracket.hpp, but also returns
/// false if the victim does not hold p any more.
template <class A, class M, class P> [[nodiscard]] GRT_INLINE bool shut_out(M* victim, P* p) {
  return shut_out<A>(victim) && victim->p == p;
}

/// Caller: sysmon. m is the holder of p that it saw. Takes p from m and gives it to `to`.
/// patient()  whether to go on waiting for m to be outside
/// good()     asked once m is outside: whether the caller still wants to take p
/// begins()   stores what m must find once it is detached, and may still change `to`
/// Returns true if `to` has p. The caller must then give it its turn.
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

/// Caller: the owner, inside. Stores `to`, which is announced or gone; denies what others ask meanwhile.
/// Returns false if goroutines stand still (stopped). Then nothing has changed.
template <class A, class M> [[nodiscard]] GRT_INLINE bool step_aside(M* m, lost_state to) {
  for (int i = 0;;) {
    lost_state l = lost_state::free;
    // Relaxed: `in`, or the turn that is given, publishes what was done inside.
    if (A::cas(m->lost, l, to, std::memory_order_relaxed)) {
      if (to == lost_state::gone) set_bar<A>(m, bar_gone);
      return true;
    }
    if (l == lost_state::stopped) return false;
    deny<A>(m);
    while (A::load(m->lost, std::memory_order_relaxed) == lost_state::take) A::pause(i);
  }
}

/// Caller: the owner, outside, after a call that was announced. Returns
/// announced  if nobody took the P; `lost` is now free
/// gone       if the P belongs to another M now
/// stopped    if goroutines stand still; the next bracket of the caller is refused
/// another    if a halt began and was lifted meanwhile; the caller still has its P
template <class A, class M> GRT_INLINE lost_state step_back(M* m) {
  for (int i = 0;; A::pause(i)) {
    // [LOST-1] gone: m sees what the taker left for it as a detached M. free: the next bracket orders.
    lost_state l = A::load(m->lost, std::memory_order_acquire, site::step_back);
    if (l == lost_state::announced &&
        A::cas(m->lost, l, lost_state::free, std::memory_order_acquire, site::step_back)) // [LOST-1]
      return lost_state::announced;
    if (l != lost_state::announced && l != lost_state::take) return l;
  }
}

/// Caller: g0, without a P, after its goroutine has left it.
template <class A, class M> GRT_INLINE void is_back(M* m) {
  A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
  set_bar<A>(m, open); // H3
  // [LOST-1] m stays inside from here on, so a thief that comes late gives up
  A::store(m->lost, lost_state::free, std::memory_order_release, site::is_back);
}

template <class A, class M> class resters {
  template <class T> using plain = typename A::template plain<T>;
  using guard = typename A::guard;

public:
  typename A::lock lock;

  /// Takes an M out of the lists: one that rests, else one whose thread has ended. In the second case the
  /// caller starts a new thread for it, which awaits its turn. Null: both lists are empty.
  M* take(bool& has_thread) {
    guard hold(lock);
    M* m = resting;
    has_thread = m;
    if (m) {
      resting = m->rest_next;
      return m;
    }
    m = A::load(threadless, std::memory_order_acquire,
                site::take_threadless); // [REST-1] all that its thread has left in it
    // Only the holder of `lock` takes from this list. So rest_next of m cannot change, and m cannot come back.
    while (m &&
           !A::cas(threadless, m, static_cast<M*>(m->rest_next), std::memory_order_acquire, site::take_threadless)) {
    } // [REST-1]
    return m;
  }

  /// Caller: holds the lock.
  void put(M* m) {
    m->rest_next = resting;
    resting = m;
  }

  /// m has no thread, or a thread that does not use it any more. Takes no lock, because the priority of that
  /// thread may be lowered.
  void put_threadless(M* m) {
    M* head = A::load(threadless, std::memory_order_relaxed);
    do m->rest_next = head;
    while (!A::cas(threadless, head, m, std::memory_order_release, site::put_threadless)); // [REST-1]
  }

  /// Caller: m's thread; m is in the list. Returns true when m has its turn. Returns false if nobody has
  /// given it a P for `ns`: the thread must end, and m may belong to a new thread already. ends() is called
  /// before m becomes available for that.
  template <class Ends> [[nodiscard]] bool await_turn_for(M* m, std::int64_t ns, Ends ends) {
    while (!has_turn<A>(m)) {
      A::futex_wait_for(m->turn, 0, ns);
      if (has_turn<A>(m)) break;
      guard hold(lock);
      plain<M*>* at = &resting;
      while (*at && *at != m) at = &static_cast<M*>(*at)->rest_next;
      if (!*at) continue; // somebody took it out of the list and is about to set `turn`
      *at = static_cast<M*>(m->rest_next);
      ends();
      put_threadless(m);
      return false;
    }
    A::store(m->turn, std::uint32_t{0}, std::memory_order_relaxed);
    return true;
  }

  plain<M*> resting{nullptr};
  typename A::template atomic<M*> threadless{nullptr}; // [REST-1] never freed, because a thief may still look at them
};

// ---- Retirement. An M has `asleep` (sleep.hpp).

/// Caller: m, whose P is empty. Returns true if m may sleep as long as `asleep` is deep. Returns false if
/// procs has grown meanwhile.
template <class A, class M, class N> [[nodiscard]] bool may_retire(M* m, unsigned id, const N& procs) {
  A::store(m->asleep, std::uint32_t{deep}, std::memory_order_relaxed);
  A::full_fence(site::retire_fence); // [RETIRE-1]
  return id >= A::load(procs, std::memory_order_relaxed);
}

template <class A, class N> void set_limit(N& procs, unsigned n) {
  A::store(procs, n, std::memory_order_relaxed);
  A::full_fence(site::procs_fence); // [RETIRE-1] before wake_retired
}

/// Caller: set_procs, after set_limit(). An M that retired looks at procs again. An M that merely sleeps looks
/// for work once and sleeps on.
template <class A, class P> void wake_retired(P* p) {
  auto* m = holder_of<A>(p);
  std::uint32_t was = deep;
  A::cas(m->asleep, was, std::uint32_t{napping}, std::memory_order_relaxed);
  A::futex_wake(m->asleep);
}

} // namespace grt::protocol
