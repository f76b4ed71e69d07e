// grt/semaphore.hpp - counting_semaphore, binary_semaphore (Go: golang.org/x/sync/semaphore).
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <grt/detail/bad_count.hpp>
#include <grt/detail/duration.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;
class wake_list;

namespace detail {
/// The part of counting_semaphore that does not depend on its maximum.
class semaphore_core {
public:
  explicit constexpr semaphore_core(std::int64_t n) noexcept : count_(n) {}
  bool acquire(std::int64_t n, std::int64_t timeout_ns, ending* ctx = nullptr);
  void acquire(std::int64_t n, const context& ctx);
  void release(std::int64_t n, std::int64_t most);

private:
  void admit_waiters(wake_list& wakes) noexcept; // the caller holds lock_
  spin_lock lock_;
  std::int64_t count_;
  wait_queue queue_;
};
} // namespace detail

/// std::counting_semaphore with weights: acquire(n) takes n units at once. Requests are served in order of arrival, so
/// a small one does not overtake a large one. A goroutine that returns from acquire() may destroy the semaphore if no
/// other goroutine uses it. Go: golang.org/x/sync/semaphore.
template <std::ptrdiff_t Most = PTRDIFF_MAX> class counting_semaphore {
  static_assert(Most >= 0);

public:
  /// Makes a semaphore with n free units. @throws std::invalid_argument n is negative or above max().
  explicit counting_semaphore(std::ptrdiff_t n) : core_(n) {
    if (n < 0 || n > Most) detail::throw_bad_count();
  }
  /// The greatest number of free units.
  static constexpr std::ptrdiff_t max() noexcept { return Most; }
  /// Takes n units; waits until they are free. @throws std::invalid_argument n is negative or above max().
  void acquire(std::ptrdiff_t n = 1) { core_.acquire(checked(n), -1); }
  /// The same, but gives up when ctx ends. @throws also std::system_error: ctx has ended; nothing is taken then.
  void acquire(std::ptrdiff_t n, const context& ctx) { core_.acquire(checked(n), ctx); }
  void acquire(const context& ctx) { acquire(1, ctx); }
  /// Takes n units if that needs no waiting, or waits at most d, or until t. Returns whether it has taken them. Fails
  /// also while an earlier request waits. @throws std::invalid_argument as acquire().
  bool try_acquire(std::ptrdiff_t n = 1) { return core_.acquire(checked(n), 0); }
  template <class R, class P> bool try_acquire_for(std::chrono::duration<R, P> d, std::ptrdiff_t n = 1) {
    return core_.acquire(checked(n), detail::ns_of(d));
  }
  template <class C, class D> bool try_acquire_until(std::chrono::time_point<C, D> t, std::ptrdiff_t n = 1) {
    do
      if (core_.acquire(checked(n), detail::ns_until(t))) return true;
    while (detail::still_ahead(t));
    return false;
  }
  /// Adds n free units, and wakes waiters whose requests can be served now. Never waits. @throws std::invalid_argument
  /// n is negative or above max(); std::logic_error more than max() units would be free. Nothing has changed then.
  void release(std::ptrdiff_t n = 1) { core_.release(checked(n), Most); }

private:
  static std::ptrdiff_t checked(std::ptrdiff_t n) {
    if (n < 0 || n > Most) detail::throw_bad_count();
    return n;
  }
  detail::semaphore_core core_;
};
using binary_semaphore = counting_semaphore<1>;

} // namespace grt

#pragma GCC visibility pop
