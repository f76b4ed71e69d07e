// sched/timed.hpp - a plain wait in one queue that may also end by time.
//
// The waiter is G::w; G::ok says how far the wait is, under the queue's lock:
//   ok_waiting  stands in the queue          leaves by: a waker (stores its verdict), or expiry (takes it out, stores
//   ok_expired)
// The timer is armed before the queue's lock is taken (order: wheel, then queue), so it may expire first: then
// `expired` says so. Whoever waits calls cancel() before it returns: the record outlives its callback, and after it
// nobody touches the queue's owner in its name.
#pragma once
#include <cstdint>

#include "sched/sched.hpp"

namespace grt {

inline constexpr std::uint32_t ok_waiting = 2, ok_expired = 3;

struct timed_wait : timer_node {
  G* g = nullptr;
  spin_lock* lock = nullptr;
  detail::wait_queue* queue = nullptr;
  std::atomic<std::uint64_t>* count = nullptr; // of waiters, one less at expiry; or null
  bool expired = false;                        // under lock

  /// ns after now; the caller holds no lock. Any thread. @throws nothing
  void arm(std::int64_t ns) noexcept;
  void cancel() noexcept { timer_cancel(this); }
};

} // namespace grt
