// grt/detail/duration.hpp - converts durations and time points to nanoseconds. Not API.
//
// The library counts time in signed 64-bit nanoseconds, a range of 292 years. All durations and time points that a
// program passes in are converted by the functions below, and only by them. Values outside the range are clamped to
// its ends, so no arithmetic overflows, whatever the representation, the period and the clock are. A wait clamped to
// the upper end lasts 292 years, in effect for ever. Intermediate counts have 128 bits, so that the difference of two
// time points is exact even far away from their clock's epoch.
#pragma once
#include <chrono>
#include <cstdint>
#include <ratio>
#include <type_traits>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {

inline constexpr std::int64_t never_ns = INT64_MAX; // the longest wait

__extension__ typedef __int128 wide_ns; // nanoseconds; all values below lie between -2^126 and 2^126

/// Returns the nanoseconds in one tick of Period if that is a whole number below 2^62, and 0 otherwise.
template <class Period> constexpr std::int64_t ns_per_tick() noexcept {
  constexpr std::int64_t second = 1000000000;
  if constexpr (second % Period::den != 0) return 0;
  else if constexpr (Period::num > never_ns / 2 / (second / Period::den)) return 0;
  else return Period::num * (second / Period::den);
}

/// Converts d to nanoseconds, rounded up. The result is clamped to +-2^126 ns. NaN becomes the lower end.
template <class R, class P> constexpr wide_ns to_wide(const std::chrono::duration<R, P>& d) noexcept {
  constexpr wide_ns most = wide_ns{1} << 126;
  constexpr std::int64_t tick = detail::ns_per_tick<P>();
  if constexpr (std::is_integral_v<R>) {
    wide_ns n = d.count();
    if constexpr (tick != 0) return n * tick;
    constexpr std::int64_t second = 1000000000;
    wide_ns whole = n * P::num / P::den, rest = n * P::num % P::den * second;
    if (whole >= most / second) return most;
    if (whole <= -most / second) return -most;
    return whole * second + rest / P::den + (rest % P::den > 0);
  } else {
    using F = std::conditional_t<std::is_same_v<R, float> || std::is_same_v<R, double>, double, long double>;
    constexpr F scale = tick != 0 ? static_cast<F>(tick) : static_cast<F>(P::num) * (F{1e9} / static_cast<F>(P::den));
    constexpr F limit = static_cast<F>(most) / scale; // checked before the multiplication, which could overflow
    F count = 0;
    if constexpr (std::is_floating_point_v<R>) count = static_cast<F>(d.count());
    else count = std::chrono::duration_cast<std::chrono::duration<F, P>>(d).count();
    if (!(count > -limit)) return -most;
    if (!(count < limit)) return most;
    F ns = count * scale;
    auto n = static_cast<wide_ns>(ns);
    return n + (static_cast<F>(n) < ns);
  }
}

/// Converts the duration of a wait to nanoseconds, rounded up: 0 if d is zero, negative or NaN; otherwise at least 1
/// and at most never_ns.
template <class R, class P> constexpr std::int64_t ns_of(const std::chrono::duration<R, P>& d) noexcept {
  if (!(d.count() > std::chrono::duration_values<R>::zero())) return 0;
  wide_ns n = detail::to_wide(d);
  return n > never_ns ? never_ns : n > 0 ? static_cast<std::int64_t>(n) : 1;
}

/// Returns the nanoseconds from now to t, measured on t's own clock: 0 if t has passed or is NaN, at most never_ns.
template <class C, class D> std::int64_t ns_until(const std::chrono::time_point<C, D>& t) {
  wide_ns left = detail::to_wide(t.time_since_epoch()) - detail::to_wide(C::now().time_since_epoch());
  return left <= 0 ? 0 : left > never_ns ? never_ns : static_cast<std::int64_t>(left);
}

/// Call after a wait of ns_until(t) has timed out. Returns true if t has not been reached, so that the caller must wait
/// again. The library always waits on the steady clock; another clock may have been set during the wait, or may run at
/// a different speed.
template <class C, class D> bool still_ahead(const std::chrono::time_point<C, D>& t) {
  if constexpr (std::is_same_v<C, std::chrono::steady_clock>) return false;
  else return detail::ns_until(t) > 0;
}

/// Returns the time point `ns` nanoseconds from now, or time_point::max() if that would overflow.
inline std::chrono::steady_clock::time_point steady_in(std::int64_t ns) noexcept {
  using clock = std::chrono::steady_clock;
  auto now = clock::now();
  std::chrono::nanoseconds d(ns);
  return d < clock::time_point::max() - now ? now + d : clock::time_point::max();
}

} // namespace grt::detail

#pragma GCC visibility pop
