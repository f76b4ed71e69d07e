// sched/wait/waiting.hpp - one wait in one queue, on the waiter's stack, that may also end early: by time, or by a context.
//
// `state` changes under the queue's lock:
//   idle    -> queued   the waiter, by enqueue()
//   queued  -> taken    a waker that popped it: take()
//   queued  -> expired  its limit, which takes it out of the queue
//   idle    -> expired  its limit, before it was enqueued: enqueue() then refuses
// Whoever ends it readies the goroutine only if it has `parked`, which the waiter sets under the same lock; else the
// waiter sees the new state when it comes to park. So between enqueue() and park() it may drop the lock and run other
// code (condition_variable unlocks its mutex there). The limit is armed before the lock is taken (order: wheel or
// context, then queue), and the destructor's disarm is synchronous: the record outlives the callback, and after it
// nobody touches the queue's owner in its name.
#pragma once
#include <cstdint>
#include <utility>

#include "sched/core/sched.hpp"
#include "sched/wait/limit.hpp"

namespace grt {

struct waiting : limiter {
  enum state_t : std::uint8_t { idle, queued, taken, expired };

  detail::waiter w{}; // w.elem: this record
  G* g;
  spin_lock& lock;
  detail::wait_queue& queue;
  std::uint64_t n = 0; // how much it waits for; the queue's owner knows
  state_t state = idle;
  bool parked = false;

  /// The lock is not held. @throws std::system_error no memory for a foreign thread's record
  waiting(spin_lock& l, detail::wait_queue& q, const limit& to = {}) : g(self()), lock(l), queue(q) {
    w.elem = this;
    if (to) arm(to);
  }
  ~waiting() { disarm(); }
  waiting(const waiting&) = delete;
  waiting& operator=(const waiting&) = delete;

  /// Lock held. false: the limit was there first.
  bool enqueue() noexcept {
    if (state != idle) return false;
    state = queued;
    queue.push(&w);
    return true;
  }
  /// queue_guard handed over. true: a waker took it. `object`: as for park().
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

/// Those to be made ready once the lock is free; the records may be gone by then.
class wake_list {
public:
  wake_list() = default;
  wake_list(const wake_list&) = delete;
  wake_list& operator=(const wake_list&) = delete;
  /// Lock held, w is out of the queue: its wait is over.
  void take(detail::waiter* w) noexcept {
    waiting& r = waiting_of(w);
    r.state = waiting::taken;
    if (!r.parked) return;
    r.g->link = nullptr;
    *tail_ = r.g;
    tail_ = &r.g->link;
  }
  /// Lock not held.
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

/// Guards a queue; told to ThreadSanitizer, as parks under it are.
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
  /// The lock, and the hold, go with a park.
  void hand_over() noexcept { l_ = nullptr; }

private:
  spin_lock* l_;
};

} // namespace grt
