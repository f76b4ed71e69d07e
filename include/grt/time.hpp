// grt/time.hpp - sleeping, timers, tickers.
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

namespace grt {

using time_point = std::chrono::steady_clock::time_point;

namespace detail {
void sleep_ns(std::int64_t ns);
void sleep_within(std::int64_t ns, const context& ctx);

struct timer_core; // counted: each handle holds one, being armed another
/// Sends the time on c, of capacity 1; period 0: once. One reference for the caller. @throws std::system_error no
/// memory or no thread.
timer_core* timer_make(chan_core* c);
/// What a timer knows of a callable: where it is stored is 16-byte aligned.
struct timer_function {
  std::size_t bytes;
  void (*run)(void* storage);
  void (*destroy)(void* storage);
};
template <class T>
inline constexpr timer_function timer_function_of = {
    sizeof(T), [](void* p) { static_cast<void>(std::invoke(*static_cast<T*>(p))); },
    [](void* p) { static_cast<T*>(p)->~T(); }};
/// The callable is to be constructed in `storage` before the first timer_set. `f`: static. `a`: what its goroutines are
/// started with, or null; copied. `at`: where they were created.
timer_core* timer_make(const timer_function& f, void*& storage, const attr* a, call_site at);
void timer_forget_function(timer_core* t) noexcept;                  // its construction threw
bool timer_set(timer_core* t, std::int64_t ns, std::int64_t period); // stops, then arms. true: it was pending
void timer_start(timer_core* t, std::int64_t ns,
                 std::int64_t period); // its first timer_set, before anybody else has it
bool timer_stop(timer_core* t) noexcept;
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

// Durations and time points, here and in all of the library, may have any representation, period and clock; nothing
// overflows. A duration that is zero, negative or NaN does not wait. One of more than 292 years, or infinite, is 292
// years. Deadlines are on std::chrono::steady_clock at heart; the time left until one on another clock is taken when
// the call begins, and again when that time is up.

/// Parks for at least d. No allocation; a thread grt did not make sleeps in the kernel. Go: time.Sleep.
template <class R, class P> void sleep_for(std::chrono::duration<R, P> d) { detail::sleep_ns(detail::ns_of(d)); }
/// Parks until t, on whatever clock. Where that is not steady_clock, it is read again after each sleep, as std does.
template <class C, class D> void sleep_until(std::chrono::time_point<C, D> t) {
  do detail::sleep_ns(detail::ns_until(t));
  while (detail::still_ahead(t));
}
/// @throws std::system_error the context has ended first, or before.
template <class R, class P> void sleep_for(std::chrono::duration<R, P> d, const context& ctx) {
  detail::sleep_within(detail::ns_of(d), ctx);
}
template <class C, class D> void sleep_until(std::chrono::time_point<C, D> t, const context& ctx) {
  do detail::sleep_within(detail::ns_until(t), ctx);
  while (detail::still_ahead(t));
}

/// Fires once: sends the time on c(), or starts a function's goroutine (after_func). A shared handle; dropping the last
/// one does not stop it. Any thread; nothing blocks. After stop() or reset() no value of before is ever received, as
/// since Go 1.23. Go: time.Timer.
class timer : public detail::timer_handle {
public:
  timer() noexcept : timer_handle(nullptr) {} ///< empty: stop() is false, c() is nil, reset() throws std::logic_error
  /// Pending from now on. @throws std::system_error no memory. Go: time.NewTimer.
  template <class R, class P>
  explicit timer(std::chrono::duration<R, P> d) : timer(detail::timer_make(detail::access::core(chan<time_point>(1)))) {
    detail::timer_start(t_, detail::ns_of(d), 0);
  }
  /// Where the time is sent; nil for after_func.
  recv_chan<time_point> c() const {
    return detail::access::recv_of<time_point>(t_ ? detail::timer_channel(t_) : nullptr);
  }
  /// true: it was pending, and now it is not: the value was not received, the function's goroutine not started.
  bool stop() const noexcept { return t_ && detail::timer_stop(t_); }
  /// Pending anew, for d from now. true: it was pending. @throws std::system_error no memory for after_func's next
  /// goroutine; then it is stopped.
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

/// Runs f in a goroutine of its own once d has passed; it is counted once it starts. Its memory is taken as the timer
/// fires (where there is none, it fires a millisecond later), with an attr at once. f may run several times at once if
/// it is reset while it runs. @throws std::system_error no memory. Go: time.AfterFunc.
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

/// Receives the time once d has passed. It cannot be stopped and lives until it is due: in a loop use on_timeout(d),
/// which costs no memory. Go: time.After.
template <class R, class P> recv_chan<time_point> after(std::chrono::duration<R, P> d) { return timer(d).c(); }

/// Sends the time on c() every d; a receiver that is late misses ticks. Stops when destroyed; c() is not closed then.
/// Any thread. Go: time.Ticker.
class ticker : detail::timer_handle {
public:
  /// @throws std::invalid_argument d is not positive; std::system_error no memory.
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
  recv_chan<time_point> c() const {
    return detail::access::recv_of<time_point>(t_ ? detail::timer_channel(t_) : nullptr);
  }
  void stop() const noexcept {
    if (t_) detail::timer_stop(t_);
  }
  /// The next tick comes d from now. @throws std::invalid_argument d is not positive.
  template <class R, class P> void reset(std::chrono::duration<R, P> d) const {
    if (!detail::ns_of(d)) detail::throw_bad_period();
    if (!t_) detail::throw_empty_timer();
    detail::timer_set(t_, detail::ns_of(d), detail::ns_of(d));
  }
};

} // namespace grt
