// sync/protocol_mutex.hpp - the slow paths of mutex, as templates over the memory (sched/protocol/memory.hpp).
//
// grt/mutex.hpp explains the bits of the state. No waiter is forgotten:
//
//   X1  A waiter is pushed under the queue's lock, when `queued` and `locked` are both set. `queued` is cleared only
//       under that lock, and only while the queue is empty.
//   X2  So as long as there is a waiter in the queue, a visit to the queue is still to come: by an unlock, or by a
//       waiter that was woken. A woken waiter either takes the mutex, or finds it taken by another goroutine. In both
//       cases an unlock that visits the queue follows.
//
// A waiter whose time is over leaves the queue but does not clear `queued` and `starving`. The unlock that finds the
// queue empty clears them and starts again.
// Rejected: clearing `locked` after releasing the queue's lock in that case, as after waking a waiter. A waiter that
// enqueues in between would never be woken.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum mutex_state : std::uint32_t { mutex_locked = 1, mutex_queued = 2, mutex_starving = 4 };

/// Takes the mutex if it is free. A starving mutex is taken only if the caller has waited. `s` is set to the state that
/// was seen. A woken waiter calls this before anything else, even if its time is over, because it may have been woken
/// on behalf of other waiters too (X2).
template <class A, class State> [[nodiscard]] GRT_INLINE bool take_free(State& state, bool waited, std::uint32_t& s) {
  for (;;) {
    s = A::load(state, std::memory_order_relaxed);
    if ((s & mutex_locked) || ((s & mutex_starving) && !waited)) return false;
    // [MUTEX-1]
    if (A::cas(state, s, s | mutex_locked, std::memory_order_acquire, site::mutex_lock)) return true;
  }
}

/// The queue is locked, and the caller is not in it. Returns false if the mutex is free. Returns true if it is held;
/// its unlock will then take the queue's lock.
template <class A, class State, class Queue>
[[nodiscard]] GRT_INLINE bool must_queue(State& state, Queue& queue, bool starves) {
  const std::uint32_t want = starves ? mutex_queued | mutex_starving : mutex_queued;
  if (A::fetch_or(state, want, std::memory_order_relaxed) & mutex_locked) return true;
  if (queue.empty()) A::fetch_and(state, ~std::uint32_t{mutex_queued | mutex_starving}, std::memory_order_relaxed);
  return false;
}

/// The queue is locked on entry and unlocked on return. Returns null if there is no waiter; the mutex is then still
/// locked, and the caller must start again. Otherwise returns the waiter, which the caller makes ready. told(w, over)
/// stores the outcome for the waiter. `over`: the mutex stays locked and is handed over to it.
template <class A, class State, class Queue, class Told, class Unlock>
GRT_INLINE auto unlock_slow(State& state, Queue& queue, Told told, Unlock unlock) {
  std::uint32_t s = A::load(state, std::memory_order_relaxed);
  auto* w = queue.pop();
  std::uint32_t drop = 0;
  bool over = w && (s & mutex_starving);
  if (queue.empty()) drop = mutex_queued | mutex_starving;
  else if (over) drop = mutex_starving; // the next waiter decides for itself whether it starves
  if (w) told(w, over);
  A::fetch_and(state, ~drop, std::memory_order_relaxed);
  unlock();
  // The state is the last access. While `locked` is set nobody else owns the mutex, so nobody can destroy it.
  if (w && !over)
    A::fetch_and(state, ~std::uint32_t{mutex_locked}, std::memory_order_release, site::mutex_unlock); // [MUTEX-1]
  return w;
}

} // namespace grt::protocol
