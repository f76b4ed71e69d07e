// grt/barrier.hpp - goroutines that wait for each other in phases.
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <grt/detail/bad_count.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;

namespace detail {
class barrier_core {
public:
  explicit barrier_core(std::ptrdiff_t n) : expected_(n), left_(n) {
    if (n < 0) detail::throw_bad_count();
  }
  /// Returns true if the caller is the last of its phase: it must run the completion and then call release().
  bool arrive(std::ptrdiff_t n, bool drop, std::uint64_t& phase);
  void release() noexcept;
  void wait(std::uint64_t phase);
  void wait(std::uint64_t phase, const context& ctx);

private:
  bool wait_until_over(std::uint64_t phase, ending* ctx);
  spin_lock lock_;
  std::uint64_t phase_ = 0;
  std::ptrdiff_t expected_, left_;
  wait_queue queue_;
};
struct no_completion {
  void operator()() const noexcept {}
};
} // namespace detail

/// std::barrier: n goroutines meet, again and again. In each phase the barrier expects n arrivals. The last one runs
/// the completion function and wakes the waiters; then the next phase begins.
template <class Completion = detail::no_completion> class barrier {
  static_assert(std::is_nothrow_invocable_v<Completion&>, "grt::barrier: the completion function must be noexcept");

public:
  /// Names the phase in which an arrive() happened.
  class arrival_token {
    friend class barrier;
    explicit arrival_token(std::uint64_t p) : phase(p) {}
    std::uint64_t phase;
  };
  /// Expects n arrivals in each phase. @throws std::invalid_argument n is negative.
  explicit barrier(std::ptrdiff_t n, Completion f = {}) : core_(n), f_(std::move(f)) {}
  static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }
  /// Arrives n times in the current phase. Does not wait for the others. @throws std::logic_error n is not positive, or
  /// more than are still expected in this phase; nothing has changed then.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t n = 1) { return arrival_token(step(n, false)); }
  /// Waits until the phase of the token is over.
  void wait(arrival_token&& t) { core_.wait(t.phase); }
  /// The same, but gives up when ctx ends. @throws std::system_error ctx has ended; the arrival still counts.
  void wait(arrival_token&& t, const context& ctx) { core_.wait(t.phase, ctx); }
  /// Arrives once and waits until the phase is over. @throws as arrive().
  void arrive_and_wait() { wait(arrive()); }
  /// Arrives once, and reduces the arrivals that later phases expect by one. @throws as arrive().
  void arrive_and_drop() { step(1, true); }

private:
  std::uint64_t step(std::ptrdiff_t n, bool drop) {
    std::uint64_t phase;
    if (core_.arrive(n, drop, phase)) {
      f_();
      core_.release();
    }
    return phase;
  }
  detail::barrier_core core_;
  [[no_unique_address]] Completion f_;
};

} // namespace grt

#pragma GCC visibility pop
