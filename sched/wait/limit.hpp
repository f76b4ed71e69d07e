// sched/wait/limit.hpp - what ends a wait early: time, or a context.
//
// A limiter stands in a wheel, in a context's list of watchers, or both. Whichever comes calls expire(), under its own
// lock (the wheel's, or the context's), which takes the lock of the queue the goroutine waits in; so the limiter is
// armed before that lock is taken, and may come first. disarm() is synchronous: on return no expire() runs or will, and
// the record may go.
#pragma once
#include <cstdint>

#include <grt/detail/ending.hpp>

#include "sched/time/wheel.hpp"

namespace grt {

struct limit {
  std::int64_t ns = -1; // from now; negative: none
  detail::ending* ctx = nullptr;
  explicit operator bool() const noexcept { return ns >= 0 || ctx; }
};

struct limiter : timer_node, detail::watcher {
  /// Under a wheel's or a context's lock, or in arm(): may come twice. Returns whom to make runnable, or null.
  G* (*expire)(limiter*) noexcept = nullptr;
  detail::ending* on = nullptr;
  bool timed = false;

  /// The caller holds no lock. Any thread.
  void arm(const limit& to) noexcept;
  void disarm() noexcept {
    if (timed || on) disarm_slow();
  }

private:
  void disarm_slow() noexcept;
};

} // namespace grt
