// sync/protocol_mutex.hpp - the slow paths of mutex, as templates over the memory (sched/protocol/memory.hpp).
//
// The bits of the state are explained in grt/sync.hpp.
//
//   X1  Who stands in the queue was pushed under its lock with `queued` and `locked` set; only under that lock, and
//   with
//       the queue empty, is `queued` cleared.
//   X2  So an unlock with somebody in the queue comes by, or whoever has been woken does: it takes the mutex, or finds
//       it taken by another one whose unlock comes by.
//
// An expired waiter leaves the queue and both flags as they are: the unlock that finds nobody clears them and begins
// again. Rejected: that it clears `locked` after the queue's lock, as it does for one it has woken - who queues in
// between is woken by nobody.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum mutex_state : std::uint32_t { mutex_locked = 1, mutex_queued = 2, mutex_starving = 4 };

/// Takes the mutex if it is free; of one that starves only if the caller has waited. s: what it was seen as. Whoever
/// was woken does this before all else, also when its time is over: it may have been woken for others too (X2).
template <class A, class State> [[nodiscard]] GRT_INLINE bool take_free(State& state, bool waited, std::uint32_t& s) {
  for (;;) {
    s = A::load(state, std::memory_order_relaxed);
    if ((s & mutex_locked) || ((s & mutex_starving) && !waited)) return false;
    // [MUTEX-1]
    if (A::cas(state, s, s | mutex_locked, std::memory_order_acquire, site::mutex_lock)) return true;
  }
}

/// Queue locked, the caller not in it. false: the mutex is free. true: it is held, and its unlock comes by the queue's
/// lock.
template <class A, class State, class Queue>
[[nodiscard]] GRT_INLINE bool must_queue(State& state, Queue& queue, bool starves) {
  const std::uint32_t want = starves ? mutex_queued | mutex_starving : mutex_queued;
  if (A::fetch_or(state, want, std::memory_order_relaxed) & mutex_locked) return true;
  if (queue.empty()) A::fetch_and(state, ~std::uint32_t{mutex_queued | mutex_starving}, std::memory_order_relaxed);
  return false;
}

/// Queue locked, and not on return. Null: nobody is there, and the mutex still locked: begin again. Else to be made
/// ready; told(w, over): its verdict, is the mutex still locked and now its?
template <class A, class State, class Queue, class Told, class Unlock>
GRT_INLINE auto unlock_slow(State& state, Queue& queue, Told told, Unlock unlock) {
  std::uint32_t s = A::load(state, std::memory_order_relaxed);
  auto* w = queue.pop();
  std::uint32_t drop = 0;
  bool over = w && (s & mutex_starving);
  if (queue.empty()) drop = mutex_queued | mutex_starving;
  else if (over) drop = mutex_starving; // the next in the queue judges for itself
  if (w) told(w, over);
  A::fetch_and(state, ~drop, std::memory_order_relaxed);
  unlock();
  // With the lock still set nobody could own, and so destroy, this mutex: the state last.
  if (w && !over)
    A::fetch_and(state, ~std::uint32_t{mutex_locked}, std::memory_order_release, site::mutex_unlock); // [MUTEX-1]
  return w;
}

} // namespace grt::protocol
