// grt/sync.hpp - mutex, shared_mutex, condition_variable, wait_group, semaphores, latch, barrier, call_once. Includes
// grt/group.hpp, which has error_group and single_flight.
//
// Any goroutine and any thread may use these types. An operation "waits" by parking its goroutine, whose thread then
// runs other goroutines. A thread that grt did not create blocks in the kernel instead. The first wait of such a thread
// allocates a record for it and may start the runtime; it throws std::system_error if either fails.
//
// An operation that takes a context throws std::system_error with ctx.err() if ctx ends before the operation could
// complete. If ctx has ended before the call, the call fails even if it need not wait. A call that fails has no effect,
// except where it is said otherwise.
//
// After a wait, the woken goroutine may destroy the object at once, provided that no other goroutine still uses it: the
// waker does not access the object after the wake-up has become visible.
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

/// Records that a call_once has run its function.
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
/// Calls f(args...), unless a call for this flag has completed before. Callers that come during a call wait for its
/// end. If f throws, call_once throws the same, and the next caller calls its own f. f must not use the same flag,
/// because it would wait for itself. Cost once f has run: one load. Go: sync.Once (where a panic counts as done).
template <class F, class... A> void call_once(once_flag& flag, F&& f, A&&... args) {
  if (GRT_DETAIL_LIKELY(flag.done_.load(std::memory_order_acquire))) return; // [ONCE-1]
  std::lock_guard hold(flag.running_);
  if (flag.done_.load(std::memory_order_relaxed)) return;
  static_cast<void>(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
  flag.done_.store(true, std::memory_order_release); // [ONCE-1] publishes what f did
}

} // namespace grt

#include <grt/group.hpp> // error_group, single_flight
