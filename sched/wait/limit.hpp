// sched/wait/limit.hpp - what can end a wait early: a time, a context, or both.
//
// A limiter is a node in a timer wheel, a node in a context's list of cancel waiters, or both. When the time has come
// or the context ends, expire() is called under the lock of the wheel or of the context. It takes the lock of the
// queue in which the goroutine waits. So the limiter is armed before that lock is taken, and expire() may run before
// the wait has begun. disarm() is synchronous: after it has returned no expire() runs or will run, and the record may
// be destroyed.
#pragma once
#include <cstdint>

#include <grt/detail/ending.hpp>

#include "sched/time/wheel.hpp"

namespace grt {

struct limit {
  std::int64_t ns = -1; // from now on; negative: no time limit
  detail::ending* ctx = nullptr;
  explicit operator bool() const noexcept { return ns >= 0 || ctx; }
};

struct limiter : timer_node, detail::watcher {
  /// Ends the wait. Called under the lock of a wheel or of a context, or by arm(); it may be called twice. Returns
  /// the goroutine to make runnable, or null.
  G* (*expire)(limiter*) noexcept = nullptr;
  detail::ending* on = nullptr; // the context in whose list it is
  bool timed = false;

  /// Any thread that holds no lock.
  void arm(const limit& to) noexcept;
  void disarm() noexcept {
    if (timed || on) disarm_slow();
  }

private:
  void disarm_slow() noexcept;
};

} // namespace grt
