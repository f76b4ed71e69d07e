// grt/sync.hpp - mutex and wait_group.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>
#include <grt/go.hpp>
#include <grt/time.hpp>

namespace grt {

/// Mutual exclusion between goroutines and threads alike; a waiting goroutine parks. Uncontended: one locked
/// instruction each way. A newcomer may overtake a waiter, until one has waited 1 ms: then the lock is handed over in
/// order. Any goroutine may unlock. BasicLockable, Lockable, TimedLockable. Whoever holds the lock may unlock and
/// destroy it at once if nobody else will use it. Go: sync.Mutex.
///
/// state_  bit 0 locked.   bit 1 somebody is queued: stale 1 costs one slow unlock, stale 0 would lose a wake and
/// cannot be (set under queue_lock_
///         while bit 0 is seen set; cleared under it when the queue is empty).   bit 2 starving: unlock hands over,
///         newcomers queue.
class mutex {
public:
  constexpr mutex() noexcept = default;
  /// Destroying a locked mutex is fatal, with a report.
  ~mutex() {
    if (GRT_DETAIL_UNLIKELY(state_.load(std::memory_order_relaxed) & locked)) destroyed_locked();
  }
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  void lock() {
    std::uint32_t free = 0;
    // [MUTEX-1]
    if (GRT_DETAIL_UNLIKELY(
            !state_.compare_exchange_strong(free, locked, std::memory_order_acquire, std::memory_order_relaxed)))
      lock_slow(-1);
  }
  bool try_lock() noexcept {
    std::uint32_t s = state_.load(std::memory_order_relaxed);
    while (!(s & (locked | starving)))
      if (state_.compare_exchange_weak(s, s | locked, std::memory_order_acquire, std::memory_order_relaxed))
        return true; // [MUTEX-1]
    return false;
  }
  /// Waits at most d; false: not locked. TimedLockable.
  template <class R, class P> bool try_lock_for(std::chrono::duration<R, P> d) {
    return try_lock() || lock_slow(detail::ns_of(d));
  }
  template <class C, class D> bool try_lock_until(std::chrono::time_point<C, D> t) {
    return try_lock_for(t - C::now());
  }
  /// Unlocking an unlocked mutex is fatal, with a report.
  void unlock() noexcept {
    std::uint32_t s = locked;
    // [MUTEX-1]
    if (GRT_DETAIL_UNLIKELY(
            !state_.compare_exchange_strong(s, 0, std::memory_order_release, std::memory_order_relaxed)))
      unlock_slow();
  }

private:
  static constexpr std::uint32_t locked = 1, queued = 2, starving = 4;
  bool lock_slow(std::int64_t timeout_ns); // negative: none
  void unlock_slow() noexcept;
  [[noreturn]] static void destroyed_locked() noexcept;

  std::atomic<std::uint32_t> state_{0};
  detail::spin_lock queue_lock_;
  detail::wait_queue queue_;
};

/// Waits for a number of things to be done. Reusable once wait has returned. The last done() touches nothing after it
/// has let the waiters go, so they may destroy it at once. Go: sync.WaitGroup.
class wait_group {
public:
  constexpr wait_group() noexcept = default;
  /// Destroying one that is waited on is fatal, with a report.
  ~wait_group() {
    if (GRT_DETAIL_UNLIKELY(static_cast<std::uint32_t>(state_.load(std::memory_order_relaxed)))) destroyed_waited();
  }
  wait_group(const wait_group&) = delete;
  wait_group& operator=(const wait_group&) = delete;

  /// Adds n, which may be negative. @throws std::logic_error below zero or above 2^31-1; nothing has changed then.
  void add(int n);
  void done() {
    std::uint64_t s = state_.load(std::memory_order_relaxed);
    // [WG-1] the plain case; waking and misuse go the slow way
    while (GRT_DETAIL_LIKELY((s >> 32) > 1 || s == one))
      if (state_.compare_exchange_weak(s, s - one, std::memory_order_acq_rel, std::memory_order_relaxed))
        return; // [WG-1]
    add(-1);
  }
  /// Parks until the count is zero.
  void wait() { wait_ns(-1); }
  /// Parks until the count is zero, at most d. false: it is not.
  template <class R, class P> bool wait_for(std::chrono::duration<R, P> d) { return wait_ns(detail::ns_of(d)); }
  /// add(1), and done() when f has returned. @throws as grt::go; the count is then as before.
  template <class F> void go(F&& f, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    start(nullptr, std::forward<F>(f), file, line);
  }
  template <class F>
  void go(const attr& a, F&& f, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    start(&a, std::forward<F>(f), file, line);
  }

private:
  template <class F> void start(const attr* a, F&& f, const char* file, unsigned line) {
    add(1);
    auto body = [this, f = std::forward<F>(f)]() mutable {
      f();
      done();
    };
    try {
      detail::spawn<decltype(body)>(file, line, a, std::move(body));
    } catch (...) {
      done();
      throw;
    }
  }
  bool wait_ns(std::int64_t timeout_ns);
  static constexpr std::uint64_t one = std::uint64_t{1} << 32;
  [[noreturn]] static void destroyed_waited() noexcept;

  std::atomic<std::uint64_t> state_{0}; // count << 32 | waiters
  detail::spin_lock lock_;              // guards queue_ and the waiters' half of state_
  detail::wait_queue queue_;
};

} // namespace grt
