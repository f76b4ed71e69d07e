// sched/wait/timed.hpp - a plain wait in one queue that may also end early, by time or by a context.
//
// The waiter is G::w; G::ok says how far the wait is, under the queue's lock:
//   ok_waiting  stands in the queue          leaves by: a waker (stores its verdict), or the limit (takes it out,
//   stores ok_expired)
// The limit is armed before the queue's lock is taken (order: wheel or context, then queue), so it may come first: then
// `expired` says so; it also says so after a wake that granted nothing. Whoever waits calls disarm() before it returns.
#pragma once
#include <cstdint>

#include "sched/core/sched.hpp"
#include "sched/wait/limit.hpp"

namespace grt {

inline constexpr std::uint32_t ok_waiting = 2, ok_expired = 3;

struct timed_wait : limiter {
  G* g = nullptr;
  spin_lock* lock = nullptr;
  detail::wait_queue* queue = nullptr;
  std::atomic<std::uint64_t>* count = nullptr; // of waiters, one less at expiry; or null
  bool expired = false;                        // under lock

  /// The caller holds no lock. Any thread.
  void arm(const limit& to) noexcept;
};

} // namespace grt
