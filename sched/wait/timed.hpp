// sched/wait/timed.hpp - a plain wait in one queue that a time or a context can end early.
//
// The waiter is G::w. G::ok is the state of the wait; it changes under the lock of the queue:
//
//   G::ok        meaning                        leaves by
//   ok_waiting   the waiter is in the queue     a waker, which stores its verdict: 0 or 1
//                                               the limit, which removes the waiter and stores ok_expired
//   ok_expired   the limit has ended the wait   -
//
// The limit is armed before the lock of the queue is taken (lock order: wheel or context, then queue). So it may
// expire before the wait begins; then only `expired` is set. It is also set if the limit expires after a wake that
// granted nothing. The waiting goroutine calls disarm() before it returns.
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
  std::atomic<std::uint64_t>* count = nullptr; // the number of waiters, which expiry decrements; or null
  bool expired = false;                        // under `lock`

  /// Any thread that holds no lock.
  void arm(const limit& to) noexcept;
};

} // namespace grt
