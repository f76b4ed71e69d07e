// grt/mutex.hpp - mutual exclusion (Go: sync.Mutex).
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

#include <grt/detail/duration.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;

/// Mutual exclusion between goroutines and threads. Meets BasicLockable, Lockable and TimedLockable. Not recursive. Any
/// goroutine may unlock it, not only the one that locked it. A newcomer may take the lock before a waiter does. Once a
/// waiter has waited for 1 ms, the mutex is "starving": the lock is handed to the waiters in order, and a newcomer
/// queues. The holder may unlock and destroy the mutex at once if no other goroutine will use it. Cost without
/// contention: one locked instruction to lock and one to unlock. Go: sync.Mutex.
///
/// The bits of state_:
///
///     bit 0  locked     The mutex is held, or is being handed over.
///     bit 1  queued     The queue has waiters. A stale 1 costs one slow unlock. A stale 0 would lose a wake-up and
///                       cannot occur: the bit is set under queue_lock_ while bit 0 is seen set, and cleared under
///                       queue_lock_ when the queue is empty.
///     bit 2  starving   unlock() hands the lock to the first waiter; newcomers queue.
class mutex {
public:
  constexpr mutex() noexcept = default;
  /// Destroying a locked mutex is fatal, with a report; but not while the process exits, because an abandoned goroutine
  /// may hold it then.
  ~mutex() {
    if (GRT_DETAIL_UNLIKELY(state_.load(std::memory_order_relaxed) & locked)) destroyed_locked();
  }
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  /// Locks the mutex; waits until it is free. Go: Lock.
  void lock() {
    std::uint32_t free = 0;
    // [MUTEX-1]
    if (GRT_DETAIL_UNLIKELY(
            !state_.compare_exchange_strong(free, locked, std::memory_order_acquire, std::memory_order_relaxed)))
      lock_slow<false>(-1, nullptr);
  }
  /// The same, but gives up when ctx ends. @throws std::system_error ctx has ended; the mutex is not locked then.
  void lock(const context& ctx);
  /// Locks the mutex if it is free and not starving, and returns whether it did. Never waits. Go: TryLock.
  bool try_lock() noexcept {
    std::uint32_t s = state_.load(std::memory_order_relaxed);
    while (!(s & (locked | starving)))
      if (state_.compare_exchange_weak(s, s | locked, std::memory_order_acquire, std::memory_order_relaxed))
        return true; // [MUTEX-1]
    return false;
  }
  /// Waits at most d, or until t. Returns whether the mutex was locked.
  template <class R, class P> bool try_lock_for(std::chrono::duration<R, P> d) {
    return try_lock() || lock_slow<true>(detail::ns_of(d), nullptr);
  }
  template <class C, class D> bool try_lock_until(std::chrono::time_point<C, D> t) {
    if (try_lock()) return true;
    do
      if (lock_slow<true>(detail::ns_until(t), nullptr)) return true;
    while (detail::still_ahead(t));
    return false;
  }
  /// Unlocks the mutex; never waits. Unlocking an unlocked mutex is fatal, with a report. Go: Unlock.
  void unlock() noexcept {
    std::uint32_t s = locked;
    // [MUTEX-1]
    if (GRT_DETAIL_UNLIKELY(
            !state_.compare_exchange_strong(s, 0, std::memory_order_release, std::memory_order_relaxed)))
      unlock_slow();
  }

private:
  static constexpr std::uint32_t locked = 1, queued = 2, starving = 4;
  template <bool limited> bool lock_slow(std::int64_t timeout_ns, detail::ending* ctx); // negative: no time-out
  void unlock_slow() noexcept;
  static void destroyed_locked() noexcept;

  std::atomic<std::uint32_t> state_{0};
  detail::spin_lock queue_lock_;
  detail::wait_queue queue_;
};

} // namespace grt

#pragma GCC visibility pop
