// grt/sync.hpp - mutex, shared_mutex, condition_variable, wait_group, semaphores, latch, barrier, call_once; by
// grt/group.hpp also error_group and single_flight.
#pragma once
#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include <grt/detail/duration.hpp>
#include <grt/detail/ending.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>
#include <grt/go.hpp>
#include <grt/time.hpp>

namespace grt {
class context;
class wake_list;
struct waiting;
namespace detail {
[[noreturn]] void throw_bad_count();
}

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
  /// Destroying a locked mutex is fatal, with a report. Not at exit, where a goroutine that was abandoned may hold it.
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
      lock_slow<false>(-1, nullptr);
  }
  /// @throws std::system_error the context has ended: at once if it had, and then also a free mutex is not locked.
  void lock(const context& ctx);
  bool try_lock() noexcept {
    std::uint32_t s = state_.load(std::memory_order_relaxed);
    while (!(s & (locked | starving)))
      if (state_.compare_exchange_weak(s, s | locked, std::memory_order_acquire, std::memory_order_relaxed))
        return true; // [MUTEX-1]
    return false;
  }
  /// Waits at most d; false: not locked. TimedLockable.
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
  template <bool limited> bool lock_slow(std::int64_t timeout_ns, detail::ending* ctx); // negative: none
  void unlock_slow() noexcept;
  static void destroyed_locked() noexcept;

  std::atomic<std::uint32_t> state_{0};
  detail::spin_lock queue_lock_;
  detail::wait_queue queue_;
};

/// Waits for a number of things to be done. Reusable once wait has returned. The last done() touches nothing after it
/// has let the waiters go, so they may destroy it at once. Go: sync.WaitGroup.
class wait_group {
public:
  constexpr wait_group() noexcept = default;
  /// Destroying one that is waited on is fatal, with a report. Not at exit, where the waiter may have been abandoned.
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
  /// @throws std::system_error the context has ended first.
  void wait(const context& ctx);
  /// Parks until the count is zero, at most d. false: it is not.
  template <class R, class P> bool wait_for(std::chrono::duration<R, P> d) { return wait_ns(detail::ns_of(d)); }
  /// add(1), and done() when f is left. Arguments as grt::go. @throws as grt::go; the count is then as before.
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
    leave unless_started{this}; // copying f may throw too
    auto body = [this, f = T(std::forward<A>(args)...)]() mutable {
      leave end{this};     // also when the goroutine is left by grt::exit
      T run(std::move(f)); // what it holds is gone before done()
      static_cast<void>(std::move(run)());
    };
    detail::spawn<decltype(body)>(site, line, a, std::move(body));
    unless_started.w = nullptr;
  }
  bool wait_ns(std::int64_t timeout_ns, detail::ending* ctx = nullptr);
  static constexpr std::uint64_t one = std::uint64_t{1} << 32;
  static void destroyed_waited() noexcept;

  std::atomic<std::uint64_t> state_{0}; // count << 32 | waiters
  detail::spin_lock lock_;              // guards queue_ and the waiters' half of state_
  detail::wait_queue queue_;
};

/// Many readers or one writer. Served in order: a waiting writer makes new shared locks wait, and try fail. Any
/// goroutine may unlock. SharedTimedLockable, as std::shared_timed_mutex. Not recursive, either way. Uncontended: one
/// locked instruction each way. Go: sync.RWMutex.
class shared_mutex {
public:
  constexpr shared_mutex() noexcept = default;
  /// Destroying a locked one is fatal, with a report. Not at exit, where a goroutine that was abandoned may hold it.
  ~shared_mutex() {
    if (GRT_DETAIL_UNLIKELY(writer_ || readers_)) destroyed_locked();
  }
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  void lock() { lock_ns(true, -1); }
  /// @throws std::system_error the context has ended first.
  void lock(const context& ctx);
  bool try_lock() { return lock_ns(true, 0); }
  template <class R, class P> bool try_lock_for(std::chrono::duration<R, P> d) {
    return lock_ns(true, detail::ns_of(d));
  }
  template <class C, class D> bool try_lock_until(std::chrono::time_point<C, D> t) { return lock_until(true, t); }
  /// Unlocking what is not locked so is fatal, with a report.
  void unlock() noexcept;
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
  bool lock_ns(bool exclusive, std::int64_t timeout_ns, detail::ending* ctx = nullptr); // negative: none
  bool admit(bool exclusive) noexcept;                                                  // lock_ held
  void admit_waiters(wake_list& wakes) noexcept;                                        // lock_ held
  static void destroyed_locked() noexcept;
  [[noreturn]] static void misused(const char* how) noexcept;

  detail::spin_lock lock_; // guards all of it; what returns from unlock has touched nothing after releasing it
  bool writer_ = false;
  std::uint32_t readers_ = 0;
  detail::wait_queue queue_;
};

namespace detail {
/// A condition to wait for in two steps: between them the caller unlocks its mutex. Whoever is notified may destroy it.
class condition_core {
public:
  constexpr condition_core() noexcept = default;
  ~condition_core();
  condition_core(const condition_core&) = delete;
  condition_core& operator=(const condition_core&) = delete;
  /// unlock(lock) is called once the caller stands in the queue; if it throws, the caller has left the queue again.
  /// false: the time was up, or the context over, first. @throws std::system_error no memory for a thread's record.
  bool wait(std::int64_t timeout_ns, ending* ctx, void (*unlock)(void*), void* lock);
  /// @throws std::system_error the context has ended; unlock was not called if it had before.
  void wait(const context& ctx, void (*unlock)(void*), void* lock);
  void notify(bool all) noexcept;

private:
  bool take_first(wake_list& wakes, bool one) noexcept; // lock_ held
  void give_up(waiting& r) noexcept;
  spin_lock lock_;
  wait_queue queue_;
  std::atomic<std::uint32_t> inside_{0}; // who has not yet left wait(), though it may be notified: the destructor waits
};
} // namespace detail

/// std::condition_variable_any for goroutines and threads; waits with any BasicLockable, such as a
/// std::unique_lock<grt::mutex>. No spurious wakes of its own. Whoever is notified may destroy it. Go: sync.Cond.
class condition_variable {
public:
  void notify_one() noexcept { core_.notify(false); }
  void notify_all() noexcept { core_.notify(true); }
  /// Unlocks, waits, locks again. Waiters are woken in order. If unlock() throws, so does wait(), which has had no
  /// effect then: a notify_one() that had reached it goes to the next waiter. A lock() that throws ends the program.
  /// @throws std::system_error no memory for the first wait of a thread of the program's; the lock is held then.
  template <class Lock> void wait(Lock& lock) { wait_ns(lock, -1); }
  template <class Lock, class Pred>
  requires std::predicate<Pred&>
  void wait(Lock& lock, Pred done) {
    while (!done()) wait(lock);
  }
  /// @throws std::system_error the context has ended; the lock is held again then.
  template <class Lock> void wait(Lock& lock, const context& ctx) {
    relock<Lock> r{lock};
    core_.wait(ctx, relock<Lock>::unlock, std::addressof(r));
  }
  template <class Lock, class Pred> void wait(Lock& lock, const context& ctx, Pred done) {
    for (detail::check_ending(ctx); !done();) wait(lock, ctx);
  }
  template <class Lock, class R, class P> std::cv_status wait_for(Lock& lock, std::chrono::duration<R, P> d) {
    return wait_ns(lock, detail::ns_of(d)) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <class Lock, class R, class P, class Pred>
  bool wait_for(Lock& lock, std::chrono::duration<R, P> d, Pred done) {
    return wait_until(lock, detail::steady_in(detail::ns_of(d)), std::move(done));
  }
  /// On a clock other than steady_clock, which may have been set meanwhile: timeout only if t has come by that clock.
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
  template <class Lock> struct relock { // also when unlocking threw nothing but waiting did
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

namespace detail {
/// Weighted and FIFO: a small request does not overtake a large one.
class semaphore_core {
public:
  explicit constexpr semaphore_core(std::int64_t n) noexcept : count_(n) {}
  bool acquire(std::int64_t n, std::int64_t timeout_ns, ending* ctx = nullptr);
  void acquire(std::int64_t n, const context& ctx);
  void release(std::int64_t n, std::int64_t most);

private:
  void admit_waiters(wake_list& wakes) noexcept; // lock_ held
  spin_lock lock_;
  std::int64_t count_;
  wait_queue queue_;
};
} // namespace detail

/// std::counting_semaphore, weighted: acquire(n) takes n at once, in order of arrival. Whoever returns from acquire may
/// destroy it. Go: golang.org/x/sync/semaphore.
template <std::ptrdiff_t Most = PTRDIFF_MAX> class counting_semaphore {
  static_assert(Most >= 0);

public:
  /// @throws std::invalid_argument n < 0 or above max().
  explicit counting_semaphore(std::ptrdiff_t n) : core_(n) {
    if (n < 0 || n > Most) detail::throw_bad_count();
  }
  static constexpr std::ptrdiff_t max() noexcept { return Most; }
  /// Parks until n can be taken. @throws std::invalid_argument n < 0 or above max(), which could never be.
  void acquire(std::ptrdiff_t n = 1) { core_.acquire(checked(n), -1); }
  /// @throws std::system_error the context has ended first; nothing is taken then.
  void acquire(std::ptrdiff_t n, const context& ctx) { core_.acquire(checked(n), ctx); }
  void acquire(const context& ctx) { acquire(1, ctx); }
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
  /// @throws std::invalid_argument n < 0; std::logic_error more than max() would be free; nothing has changed then.
  void release(std::ptrdiff_t n = 1) { core_.release(checked(n), Most); }

private:
  static std::ptrdiff_t checked(std::ptrdiff_t n) {
    if (n < 0 || n > Most) detail::throw_bad_count();
    return n;
  }
  detail::semaphore_core core_;
};
using binary_semaphore = counting_semaphore<1>;

/// std::latch: waits until it has been counted down to zero, once. Whoever returns from wait may destroy it.
class latch {
public:
  /// @throws std::invalid_argument n < 0.
  explicit latch(std::ptrdiff_t n) : count_(n) {
    if (n < 0) detail::throw_bad_count();
  }
  static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;
  /// @throws std::logic_error below zero; nothing has changed then.
  void count_down(std::ptrdiff_t n = 1);
  bool try_wait() const noexcept;
  void wait() const;
  /// @throws std::system_error the context has ended first.
  void wait(const context& ctx) const;
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

namespace detail {
class barrier_core {
public:
  explicit barrier_core(std::ptrdiff_t n) : expected_(n), left_(n) {
    if (n < 0) detail::throw_bad_count();
  }
  /// true: the caller came last; it runs the completion and then calls release().
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

/// std::barrier: n arrive, the last one runs the completion, all go on; again and again.
template <class Completion = detail::no_completion> class barrier {
  static_assert(std::is_nothrow_invocable_v<Completion&>, "grt::barrier: the completion function must be noexcept");

public:
  class arrival_token {
    friend class barrier;
    explicit arrival_token(std::uint64_t p) : phase(p) {}
    std::uint64_t phase;
  };
  /// @throws std::invalid_argument n < 0.
  explicit barrier(std::ptrdiff_t n, Completion f = {}) : core_(n), f_(std::move(f)) {}
  static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }
  /// @throws std::logic_error more arrive than are expected.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t n = 1) { return arrival_token(step(n, false)); }
  void wait(arrival_token&& t) { core_.wait(t.phase); }
  /// @throws std::system_error the context has ended before the phase; the caller has arrived all the same.
  void wait(arrival_token&& t, const context& ctx) { core_.wait(t.phase, ctx); }
  void arrive_and_wait() { wait(arrive()); }
  /// Arrives, and is expected no more from the next phase on.
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

/// Says that a call_once has run. Any thread.
class once_flag {
public:
  constexpr once_flag() noexcept = default;
  once_flag(const once_flag&) = delete;
  once_flag& operator=(const once_flag&) = delete;

private:
  template <class F, class... A> friend void call_once(once_flag& flag, F&& f, A&&... args);
  std::atomic<bool> done_{false};
  mutex running_;
};
/// Runs f once for the flag; those who come meanwhile wait. One that throws leaves it to the next. Go: sync.Once (where
/// a panic counts as done).
template <class F, class... A> void call_once(once_flag& flag, F&& f, A&&... args) {
  if (GRT_DETAIL_LIKELY(flag.done_.load(std::memory_order_acquire))) return; // [ONCE-1]
  std::lock_guard hold(flag.running_);
  if (flag.done_.load(std::memory_order_relaxed)) return;
  static_cast<void>(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
  flag.done_.store(true, std::memory_order_release); // [ONCE-1] sees what f did
}

} // namespace grt

#include <grt/group.hpp> // error_group, single_flight
