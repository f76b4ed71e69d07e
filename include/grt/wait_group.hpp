// grt/wait_group.hpp - waits for a number of goroutines (Go: sync.WaitGroup).
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <atomic>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <grt/detail/duration.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>
#include <grt/go.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;

/// Waits until a counter is zero: usually, until a number of goroutines have ended. Reusable once wait() has returned.
/// A woken waiter may destroy the wait_group at once, because the last done() does not access it after it has released
/// the waiters. Go: sync.WaitGroup.
class wait_group {
public:
  constexpr wait_group() noexcept = default;
  /// Destroying a wait_group that has waiters is fatal, with a report; but not while the process exits, because an
  /// abandoned goroutine may wait then.
  ~wait_group() {
    if (GRT_DETAIL_UNLIKELY(static_cast<std::uint32_t>(state_.load(std::memory_order_relaxed)))) destroyed_waited();
  }
  wait_group(const wait_group&) = delete;
  wait_group& operator=(const wait_group&) = delete;

  /// Adds n, which may be negative, to the counter, and wakes the waiters if it becomes zero. Never waits.
  /// @throws std::logic_error the counter would be negative or above 2^31-1; it is unchanged then. Go: Add.
  void add(int n);
  /// As add(-1). Go: Done.
  void done() {
    std::uint64_t s = state_.load(std::memory_order_relaxed);
    // [WG-1] the fast path; add() handles waking and misuse
    while (GRT_DETAIL_LIKELY((s >> 32) > 1 || s == one))
      if (state_.compare_exchange_weak(s, s - one, std::memory_order_acq_rel, std::memory_order_relaxed))
        return; // [WG-1]
    add(-1);
  }
  /// Waits until the counter is zero. Go: Wait.
  void wait() { wait_ns(-1); }
  /// The same, but gives up when ctx ends. @throws std::system_error ctx has ended.
  void wait(const context& ctx);
  /// Waits until the counter is zero, at most d. Returns whether it is zero.
  template <class R, class P> bool wait_for(std::chrono::duration<R, P> d) { return wait_ns(detail::ns_of(d)); }
  /// Calls add(1) and runs f(args...) in a new goroutine, as grt::go does. Calls done() when f returns, or when
  /// grt::exit() ends it, after f and its arguments have been destroyed. @throws as grt::go and add(); the counter is
  /// unchanged then. Go: WaitGroup.Go.
  template <class F>
  requires std::invocable<std::decay_t<F>>
  void go(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    start<std::decay_t<F>>(nullptr, at.file, at.line, std::forward<F>(f));
  }
  template <class F>
  requires std::invocable<std::decay_t<F>>
  void go(const attr& a, F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    start<std::decay_t<F>>(&a, at.file, at.line, std::forward<F>(f));
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
  go(F&& f, A0&& a0, A&&... args) {
    start<detail::bound_to<F, A0, A...>>(nullptr, __builtin_return_address(0), 0, std::forward<F>(f),
                                         std::forward<A0>(a0), std::forward<A>(args)...);
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
  go(const attr& a, F&& f, A0&& a0, A&&... args) {
    start<detail::bound_to<F, A0, A...>>(&a, __builtin_return_address(0), 0, std::forward<F>(f), std::forward<A0>(a0),
                                         std::forward<A>(args)...);
  }

private:
  struct leave {
    wait_group* w;
    ~leave() {
      if (w) w->done();
    }
  };
  template <class T, class... A> void start(const attr* a, const void* site, unsigned line, A&&... args) {
    add(1);
    leave unless_started{this}; // copying f may throw, too
    auto body = [this, f = T(std::forward<A>(args)...)]() mutable {
      leave end{this};     // calls done(), also if grt::exit() ends the goroutine
      T run(std::move(f)); // moved, so that the function and its captures are destroyed before done()
      static_cast<void>(std::move(run)());
    };
    detail::spawn<decltype(body)>(site, line, a, std::move(body));
    unless_started.w = nullptr;
  }
  bool wait_ns(std::int64_t timeout_ns, detail::ending* ctx = nullptr);
  static constexpr std::uint64_t one = std::uint64_t{1} << 32;
  static void destroyed_waited() noexcept;

  std::atomic<std::uint64_t> state_{0}; // the counter in the upper half, the number of waiters in the lower half
  detail::spin_lock lock_;              // guards queue_ and the lower half of state_
  detail::wait_queue queue_;
};

} // namespace grt

#pragma GCC visibility pop
