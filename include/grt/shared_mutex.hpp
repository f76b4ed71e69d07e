// grt/shared_mutex.hpp - many readers or one writer (Go: sync.RWMutex).
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <chrono>
#include <cstdint>

#include <grt/detail/duration.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;
class wake_list;

/// A lock for many readers or one writer. Meets SharedTimedLockable, as std::shared_timed_mutex does. Waiters are
/// served in order of arrival: while a writer waits, new shared locks wait behind it, and tries fail. Any goroutine may
/// unlock. Not recursive, neither exclusive nor shared. Cost without contention: one locked instruction to lock and one
/// to unlock. Go: sync.RWMutex.
class shared_mutex {
public:
  constexpr shared_mutex() noexcept = default;
  /// Destroying a locked shared_mutex is fatal, with a report; but not while the process exits, because an abandoned
  /// goroutine may hold it then.
  ~shared_mutex() {
    if (GRT_DETAIL_UNLIKELY(writer_ || readers_)) destroyed_locked();
  }
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  /// Locks exclusively; waits until no other goroutine holds the lock. Go: Lock.
  void lock() { lock_ns(true, -1); }
  /// The same, but gives up when ctx ends. @throws std::system_error ctx has ended; nothing is locked then.
  void lock(const context& ctx);
  /// Locks exclusively if that needs no waiting, and returns whether it did. Go: TryLock.
  bool try_lock() { return lock_ns(true, 0); }
  /// Waits at most d, or until t. Returns whether it has locked.
  template <class R, class P> bool try_lock_for(std::chrono::duration<R, P> d) {
    return lock_ns(true, detail::ns_of(d));
  }
  template <class C, class D> bool try_lock_until(std::chrono::time_point<C, D> t) { return lock_until(true, t); }
  /// Releases an exclusive lock; never waits. If there is none, this is fatal, with a report. Go: Unlock.
  void unlock() noexcept;
  /// The same operations for a shared lock. Go: RLock, TryRLock, RUnlock.
  void lock_shared() { lock_ns(false, -1); }
  void lock_shared(const context& ctx);
  bool try_lock_shared() { return lock_ns(false, 0); }
  template <class R, class P> bool try_lock_shared_for(std::chrono::duration<R, P> d) {
    return lock_ns(false, detail::ns_of(d));
  }
  template <class C, class D> bool try_lock_shared_until(std::chrono::time_point<C, D> t) {
    return lock_until(false, t);
  }
  void unlock_shared() noexcept;

private:
  template <class C, class D> bool lock_until(bool exclusive, const std::chrono::time_point<C, D>& t) {
    do
      if (lock_ns(exclusive, detail::ns_until(t))) return true;
    while (detail::still_ahead(t));
    return false;
  }
  bool lock_ns(bool exclusive, std::int64_t timeout_ns, detail::ending* ctx = nullptr); // negative: no time-out
  bool admit(bool exclusive) noexcept;                                                  // the caller holds lock_
  void admit_waiters(wake_list& wakes) noexcept;                                        // the caller holds lock_
  static void destroyed_locked() noexcept;
  [[noreturn]] static void misused(const char* how) noexcept;

  detail::spin_lock lock_; // guards the fields below; releasing it is the last access of every operation
  bool writer_ = false;
  std::uint32_t readers_ = 0;
  detail::wait_queue queue_;
};

} // namespace grt

#pragma GCC visibility pop
