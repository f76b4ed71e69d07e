// grt/latch.hpp - a counter that is counted down once.
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <cstddef>
#include <cstdint>

#include <grt/detail/bad_count.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;

/// std::latch: a counter that can be counted down to zero once, and be waited for. A goroutine that returns from wait()
/// may destroy the latch if no other goroutine uses it.
class latch {
public:
  /// Sets the counter to n. @throws std::invalid_argument n is negative.
  explicit latch(std::ptrdiff_t n) : count_(n) {
    if (n < 0) detail::throw_bad_count();
  }
  static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;
  /// Subtracts n, and wakes the waiters if the counter becomes zero. Never waits. @throws std::logic_error n is
  /// negative or above the counter; nothing has changed then.
  void count_down(std::ptrdiff_t n = 1);
  /// Returns whether the counter is zero. Never waits.
  bool try_wait() const noexcept;
  /// Waits until the counter is zero.
  void wait() const;
  /// The same, but gives up when ctx ends. @throws std::system_error ctx has ended.
  void wait(const context& ctx) const;
  /// count_down(n), then wait().
  void arrive_and_wait(std::ptrdiff_t n = 1) {
    count_down(n);
    wait();
  }

private:
  bool wait_until_over(detail::ending* ctx) const;
  mutable detail::spin_lock lock_;
  std::ptrdiff_t count_;
  mutable detail::wait_queue queue_;
};

} // namespace grt

#pragma GCC visibility pop
