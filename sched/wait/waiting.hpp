// sched/wait/waiting.hpp - one wait in one queue that a time or a context can end early.
//
// The record of the wait is on the waiter's stack.
//
// `state` changes under the lock of the queue:
//   idle    -> queued   by the waiter, in enqueue()
//   queued  -> taken    by a waker that has popped the record, in wake_list::take()
//   queued  -> expired  by the limit, which removes the record from the queue
//   idle    -> expired  by the limit, before the record was enqueued; enqueue() then refuses
//
// The side that ends the wait readies the goroutine only if `parked` is set; the waiter sets it under the same lock.
// If it is not set, the waiter sees the new state when it is about to park. So between enqueue() and park_here() the
// waiter may release the lock and run other code (condition_variable unlocks its mutex there).
//
// The limit is armed before the lock is taken (lock order: wheel or context, then queue). The destructor disarms it,
// and that is synchronous. So the record outlives the callback, and after the destructor no callback of this wait
// touches the object that owns the queue.
#pragma once
#include <cstdint>
#include <utility>

#include "sched/core/sched.hpp"
#include "sched/wait/limit.hpp"

namespace grt {

struct waiting : limiter {
  enum state_t : std::uint8_t { idle, queued, taken, expired };

  detail::waiter w{}; // w.elem points to this record
  G* g;
  spin_lock& lock;
  detail::wait_queue& queue;
  std::uint64_t n = 0; // for the owner of the queue: how many units it waits for
  state_t state = idle;
  bool parked = false;

  /// The caller does not hold the lock. @throws std::system_error no memory for a foreign thread's record
  waiting(spin_lock& l, detail::wait_queue& q, const limit& to = {}) : g(self()), lock(l), queue(q) {
    w.elem = this;
    if (to) arm(to);
  }
  ~waiting() { disarm(); }
  waiting(const waiting&) = delete;
  waiting& operator=(const waiting&) = delete;

  /// The caller holds the lock. Returns false if the limit has already expired.
  bool enqueue() noexcept {
    if (state != idle) return false;
    state = queued;
    queue.push(&w);
    return true;
  }
  /// The caller has called queue_guard::hand_over(). Returns true if a waker ended the wait. `object`: as for park().
  bool park_here(wait_reason why, const void* object) noexcept {
    if (state == queued) {
      parked = true;
      lock.tsan_release();
      park(g, release_of(&lock), why, object);
    } else {
      lock.tsan_release();
      lock.unlock();
      let_loose();
    }
    return state == taken;
  }

private:
  void arm(const limit& to) noexcept;
};

inline waiting& waiting_of(detail::waiter* w) noexcept { return *static_cast<waiting*>(w->elem); }

/// Goroutines to make ready once the lock is free. Their records may have been destroyed by then.
class wake_list {
public:
  wake_list() = default;
  wake_list(const wake_list&) = delete;
  wake_list& operator=(const wake_list&) = delete;
  /// Ends the wait of w, which is no longer in the queue. The caller holds the lock.
  void take(detail::waiter* w) noexcept {
    waiting& r = waiting_of(w);
    r.state = waiting::taken;
    if (!r.parked) return;
    r.g->link = nullptr;
    *tail_ = r.g;
    tail_ = &r.g->link;
  }
  /// The caller does not hold the lock.
  void ready_all() noexcept {
    if (head_ && !head_->link) return ready(head_);
    while (G* g = head_) {
      head_ = g->link;
      ready_tail(g);
    }
  }

private:
  G *head_ = nullptr, **tail_ = &head_;
};

/// Guards a queue, and tells ThreadSanitizer, which is told of parks under this lock as well.
class queue_guard {
public:
  explicit queue_guard(spin_lock& l) noexcept : l_(&l) {
    hold();
    l.lock();
    l.tsan_acquire();
  }
  ~queue_guard() { unlock(); }
  queue_guard(const queue_guard&) = delete;
  queue_guard& operator=(const queue_guard&) = delete;
  void unlock() noexcept {
    if (spin_lock* l = std::exchange(l_, nullptr)) {
      l->tsan_release();
      l->unlock();
      let_loose();
    }
  }
  /// The park that follows releases the lock and ends the hold.
  void hand_over() noexcept { l_ = nullptr; }

private:
  spin_lock* l_;
};

} // namespace grt
