// grt/time.hpp - sleeping, timers and tickers.
//
// Durations and time points, here and in the whole library, may have any representation, period and clock. Nothing
// overflows. A duration that is zero, negative or NaN does not wait. A duration of more than 292 years, or an infinite
// one, counts as 292 years. All waiting is done on std::chrono::steady_clock. For a deadline on another clock, the time
// left is computed when the call begins, and again when that time is over.
//
// Timers are never early. Any goroutine and any thread may call any function here.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <type_traits>
#include <utility>

#include <grt/chan.hpp>
#include <grt/detail/duration.hpp>
#include <grt/go.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

using time_point = std::chrono::steady_clock::time_point;

namespace detail {
void sleep_ns(std::int64_t ns);
void sleep_within(std::int64_t ns, const context& ctx);

/// A timer, with a reference count: each handle holds a reference, and an armed timer holds one to itself.
struct timer_core;
/// Makes a timer that sends the time on c, a channel of capacity 1. The caller gets one reference. @throws
/// std::system_error no memory or no thread.
timer_core* timer_make(chan_core* c);
/// The type-erased operations of a callable. Its storage is aligned to 16 bytes.
struct timer_function {
  std::size_t bytes;
  void (*run)(void* storage);
  void (*destroy)(void* storage);
};
template <class T>
inline constexpr timer_function timer_function_of = {
    sizeof(T), [](void* p) { static_cast<void>(std::invoke(*static_cast<T*>(p))); },
    [](void* p) { static_cast<T*>(p)->~T(); }};
/// Makes a timer that starts goroutines. The caller constructs the callable in `storage` before the first timer_set().
/// `f` is static. `a` has the attributes of the goroutines; it is copied and may be null. `at` is where the goroutines
/// were created, for reports.
timer_core* timer_make(const timer_function& f, void*& storage, const attr* a, call_site at);
void timer_forget_function(timer_core* t) noexcept; // the constructor of the callable threw
/// Stops the timer, then arms it to fire in ns and then every `period` ns (0: once). Returns true if it was pending.
bool timer_set(timer_core* t, std::int64_t ns, std::int64_t period);
/// The first timer_set() of a timer that no other thread can know yet.
void timer_start(timer_core* t, std::int64_t ns, std::int64_t period);
bool timer_stop(timer_core* t) noexcept; // returns true if it was pending
chan_core* timer_channel(timer_core* t) noexcept;
void timer_ref(timer_core* t) noexcept;
void timer_unref(timer_core* t) noexcept;

class timer_handle {
public:
  timer_handle(const timer_handle& o) noexcept : t_(o.t_) {
    if (t_) detail::timer_ref(t_);
  }
  timer_handle(timer_handle&& o) noexcept : t_(std::exchange(o.t_, nullptr)) {}
  timer_handle& operator=(timer_handle o) noexcept {
    std::swap(t_, o.t_);
    return *this;
  }
  ~timer_handle() {
    if (t_) detail::timer_unref(t_);
  }

protected:
  explicit timer_handle(timer_core* t) noexcept : t_(t) {}
  timer_core* t_;
};
struct timer_access;
[[noreturn]] void throw_bad_period();
[[noreturn]] void throw_empty_timer();
} // namespace detail

/// Sleeps for at least d. A goroutine parks; if d is not positive, it yields. A thread that grt did not create sleeps
/// in the kernel. Allocates nothing. Go: time.Sleep.
template <class R, class P> void sleep_for(std::chrono::duration<R, P> d) { detail::sleep_ns(detail::ns_of(d)); }
/// Sleeps until t. A clock other than steady_clock is read again after each sleep, as std::this_thread does.
template <class C, class D> void sleep_until(std::chrono::time_point<C, D> t) {
  do detail::sleep_ns(detail::ns_until(t));
  while (detail::still_ahead(t));
}
/// The same, but the sleep is over when ctx ends. @throws std::system_error ctx has ended before the call or during it;
/// the code is ctx.err().
template <class R, class P> void sleep_for(std::chrono::duration<R, P> d, const context& ctx) {
  detail::sleep_within(detail::ns_of(d), ctx);
}
template <class C, class D> void sleep_until(std::chrono::time_point<C, D> t, const context& ctx) {
  do detail::sleep_within(detail::ns_until(t), ctx);
  while (detail::still_ahead(t));
}

/// A timer that fires once: it sends the time on c(), or starts a goroutine for its function (after_func). A timer is
/// "pending" from the moment it is set until it fires or is stopped. The object is a shared handle; destroying the last
/// one does not stop the timer. No member function waits. After stop() or reset(), a value that was sent before is
/// never received, as in Go since 1.23. Go: time.Timer.
class timer : public detail::timer_handle {
public:
  /// An empty timer: stop() returns false, c() is nil, reset() throws std::logic_error.
  timer() noexcept : timer_handle(nullptr) {}
  /// Makes a timer that fires in d; it is pending at once. Starts the runtime. @throws std::system_error no memory or
  /// no thread; std::bad_alloc. Go: time.NewTimer.
  template <class R, class P>
  explicit timer(std::chrono::duration<R, P> d) : timer(detail::timer_make(detail::access::core(chan<time_point>(1)))) {
    detail::timer_start(t_, detail::ns_of(d), 0);
  }
  /// Returns the channel on which the time is sent; nil for after_func.
  recv_chan<time_point> c() const {
    return detail::access::recv_of<time_point>(t_ ? detail::timer_channel(t_) : nullptr);
  }
  /// Stops the timer. Returns true if that prevented something: the time was not received, or the function's goroutine
  /// not started. Does not wait for a goroutine that was started. Go: Timer.Stop.
  bool stop() const noexcept { return t_ && detail::timer_stop(t_); }
  /// Stops the timer and sets it to fire in d. Returns what stop() would have returned. @throws std::system_error no
  /// memory for the next goroutine of an after_func with an attr; the timer is stopped then. Go: Timer.Reset.
  template <class R, class P> bool reset(std::chrono::duration<R, P> d) const {
    if (!t_) detail::throw_empty_timer();
    return detail::timer_set(t_, detail::ns_of(d), 0);
  }

private:
  explicit timer(detail::timer_core* t) noexcept : timer_handle(t) {}
  friend struct detail::timer_access;
};

namespace detail {
struct timer_access {
  template <class F> static timer run_after(const attr* a, std::int64_t ns, F&& f, call_site at) {
    using T = std::decay_t<F>;
    static_assert(alignof(T) <= 16, "grt::after_func: capture over-aligned data by pointer");
    void* storage;
    timer t(detail::timer_make(detail::timer_function_of<T>, storage, a, at));
    try {
      ::new (storage) T(std::forward<F>(f));
    } catch (...) {
      detail::timer_forget_function(t.t_);
      throw;
    }
    detail::timer_start(t.t_, ns, 0);
    return t;
  }
};
} // namespace detail

/// Returns a timer that runs f in a goroutine of its own when d has passed. The goroutine is counted (goroutines())
/// from its start on. Its memory is allocated when the timer fires; if there is none, the timer tries again every
/// millisecond. With an attr, the memory is allocated now, and at each reset(). f may run in several goroutines at a
/// time if the timer is reset while f runs; it is destroyed with the last handle and the last run. Starts the runtime.
/// @throws std::system_error no memory or no thread; what copying f throws; with an attr also std::bad_alloc, and what
/// grt::go throws for the attr. Go: time.AfterFunc.
template <class R, class P, class F>
timer after_func(std::chrono::duration<R, P> d, F&& f,
                 detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  return detail::timer_access::run_after(nullptr, detail::ns_of(d), std::forward<F>(f), at);
}
template <class R, class P, class F>
timer after_func(const attr& a, std::chrono::duration<R, P> d, F&& f,
                 detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  return detail::timer_access::run_after(&a, detail::ns_of(d), std::forward<F>(f), at);
}

/// Returns a channel on which the time is sent when d has passed. The timer behind it cannot be stopped, and its memory
/// is used until d has passed. In a loop around a select use on_timeout(d), which uses no memory. @throws as timer(d).
/// Go: time.After.
template <class R, class P> recv_chan<time_point> after(std::chrono::duration<R, P> d) { return timer(d).c(); }

/// Sends the time on c() every d. The channel holds one tick, and a receiver that is late misses ticks. The destructor
/// stops the ticker and does not close c(). A ticker can be moved but not copied. No member function waits. Go:
/// time.Ticker.
class ticker : detail::timer_handle {
public:
  /// The first tick comes d from now. Starts the runtime. @throws std::invalid_argument d is not positive;
  /// std::system_error no memory or no thread; std::bad_alloc.
  template <class R, class P> explicit ticker(std::chrono::duration<R, P> d) : timer_handle(nullptr) {
    if (!detail::ns_of(d)) detail::throw_bad_period();
    t_ = detail::timer_make(detail::access::core(chan<time_point>(1)));
    detail::timer_set(t_, detail::ns_of(d), detail::ns_of(d));
  }
  ticker(ticker&&) noexcept = default;
  ticker& operator=(ticker o) noexcept {
    std::swap(t_, o.t_);
    return *this;
  }
  ~ticker() { stop(); }
  /// Returns the channel on which the ticks are sent.
  recv_chan<time_point> c() const {
    return detail::access::recv_of<time_point>(t_ ? detail::timer_channel(t_) : nullptr);
  }
  /// No more ticks come, until a reset(). Go: Ticker.Stop.
  void stop() const noexcept {
    if (t_) detail::timer_stop(t_);
  }
  /// Changes the period to d; the next tick comes d from now. @throws std::invalid_argument d is not positive;
  /// std::logic_error the ticker was moved from. Go: Ticker.Reset.
  template <class R, class P> void reset(std::chrono::duration<R, P> d) const {
    if (!detail::ns_of(d)) detail::throw_bad_period();
    if (!t_) detail::throw_empty_timer();
    detail::timer_set(t_, detail::ns_of(d), detail::ns_of(d));
  }
};

} // namespace grt

#pragma GCC visibility pop
