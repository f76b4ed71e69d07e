// grt/condition_variable.hpp - waits for a condition under a lock (Go: sync.Cond).
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include <grt/detail/duration.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
class context;
class wake_list;
struct waiting;

namespace detail {
/// The untyped part of condition_variable.
class condition_core {
public:
  constexpr condition_core() noexcept = default;
  ~condition_core();
  condition_core(const condition_core&) = delete;
  condition_core& operator=(const condition_core&) = delete;
  /// Enters the queue, calls unlock(lock), and waits. If unlock throws, the caller has left the queue again. Returns
  /// false if the time was up, or ctx ended, before a notification came. A negative timeout_ns means no time-out.
  /// @throws std::system_error no memory for a thread's record; what unlock throws.
  bool wait(std::int64_t timeout_ns, ending* ctx, void (*unlock)(void*), void* lock);
  /// The same without a time-out. @throws also std::system_error: ctx has ended. If ctx had ended before the call,
  /// unlock was not called.
  void wait(const context& ctx, void (*unlock)(void*), void* lock);
  void notify(bool all) noexcept;

private:
  bool take_first(wake_list& wakes, bool one) noexcept; // the caller holds lock_
  void give_up(waiting& r) noexcept;
  spin_lock lock_;
  wait_queue queue_;
  std::atomic<std::uint32_t> inside_{0}; // callers that have not left wait() yet; the destructor waits for them
};
} // namespace detail

/// std::condition_variable_any for goroutines and threads. Waits with any BasicLockable, such as
/// std::unique_lock<grt::mutex>. There are no spurious wake-ups. After a notify_all() it may be destroyed at once: the
/// destructor waits until the notified waiters have left wait(). Destroying it while un-notified goroutines wait is
/// fatal, with a report. Go: sync.Cond.
class condition_variable {
public:
  /// Wakes the waiter that has waited longest, if there is one; never waits. Go: Signal.
  void notify_one() noexcept { core_.notify(false); }
  /// Wakes all waiters; never waits. Go: Broadcast.
  void notify_all() noexcept { core_.notify(true); }
  /// Unlocks `lock`, waits for a notification, and locks it again. If unlock() throws, wait() throws the same and has
  /// had no effect: if a notify_one() had chosen this waiter already, the next waiter is woken instead. If locking
  /// again throws, the program ends. @throws std::system_error a thread's first wait has no memory or cannot start the
  /// runtime; the lock is held then. Go: Wait.
  template <class Lock> void wait(Lock& lock) { wait_ns(lock, -1); }
  /// Waits until done() returns true. done() is called with the lock held.
  template <class Lock, class Pred>
  requires std::predicate<Pred&>
  void wait(Lock& lock, Pred done) {
    while (!done()) wait(lock);
  }
  /// The same, but give up when ctx ends. @throws std::system_error ctx has ended; the lock is held again then.
  template <class Lock> void wait(Lock& lock, const context& ctx) {
    relock<Lock> r{lock};
    core_.wait(ctx, relock<Lock>::unlock, std::addressof(r));
  }
  template <class Lock, class Pred> void wait(Lock& lock, const context& ctx, Pred done) {
    for (detail::check_ending(ctx); !done();) wait(lock, ctx);
  }
  /// Waits at most d. With a predicate: returns the last result of done().
  template <class Lock, class R, class P> std::cv_status wait_for(Lock& lock, std::chrono::duration<R, P> d) {
    return wait_ns(lock, detail::ns_of(d)) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <class Lock, class R, class P, class Pred>
  bool wait_for(Lock& lock, std::chrono::duration<R, P> d, Pred done) {
    return wait_until(lock, detail::steady_in(detail::ns_of(d)), std::move(done));
  }
  /// Waits until t at most. A clock other than steady_clock may be set during the wait; `timeout` is returned only if t
  /// has been reached on that clock. With a predicate: returns the last result of done().
  template <class Lock, class C, class D> std::cv_status wait_until(Lock& lock, std::chrono::time_point<C, D> t) {
    bool notified = wait_ns(lock, detail::ns_until(t));
    return notified || detail::still_ahead(t) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <class Lock, class C, class D, class Pred>
  bool wait_until(Lock& lock, std::chrono::time_point<C, D> t, Pred done) {
    while (!done())
      if (wait_until(lock, t) == std::cv_status::timeout) return done();
    return true;
  }

private:
  template <class Lock> struct relock { // locks again at the end of its scope, if unlock() has returned normally
    Lock& l;
    bool unlocked = false;
    ~relock() {
      if (unlocked) l.lock();
    }
    static void unlock(void* p) {
      auto* r = static_cast<relock*>(p);
      r->l.unlock();
      r->unlocked = true;
    }
  };
  template <class Lock> bool wait_ns(Lock& lock, std::int64_t ns) {
    relock<Lock> r{lock};
    return core_.wait(ns, nullptr, relock<Lock>::unlock, std::addressof(r));
  }
  detail::condition_core core_;
};

} // namespace grt

#pragma GCC visibility pop
