// grt/detail/duration.hpp - spans of time and deadlines as the core takes them. Not API.
//
// The core counts signed 64-bit nanoseconds, which is 292 years. Every duration and every time point of a program is
// converted here, and here alone, and what does not fit is cut off at the ends: no arithmetic overflows, whatever the
// representation, the period and the clock are. A wait that is cut off at the upper end is as good as one for ever.
// Halfway, counts are 128 bits wide, so that the difference of two time points is exact also far away from the clock's
// epoch.
#pragma once
#include <chrono>
#include <cstdint>
#include <ratio>
#include <type_traits>

namespace grt::detail {

inline constexpr std::int64_t never_ns = INT64_MAX;

__extension__ typedef __int128 wide_ns; // every value of this type here lies between -2^126 and 2^126

/// Nanoseconds in one tick, if that is a whole number below 2^62; else 0.
template <class Period> constexpr std::int64_t ns_per_tick() noexcept {
  constexpr std::int64_t second = 1000000000;
  if constexpr (second % Period::den != 0) return 0;
  else if constexpr (Period::num > never_ns / 2 / (second / Period::den)) return 0;
  else return Period::num * (second / Period::den);
}

/// Rounded up. What lies beyond 2^126 ns is cut off there; NaN is the least value.
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
    constexpr F limit = static_cast<F>(most) / scale; // compared before the multiplication, which could overflow
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

/// The nanoseconds of a wait: 0 where d is zero, negative or NaN, else at least 1; never_ns if it is longer than that.
template <class R, class P> constexpr std::int64_t ns_of(const std::chrono::duration<R, P>& d) noexcept {
  if (!(d.count() > std::chrono::duration_values<R>::zero())) return 0;
  wide_ns n = detail::to_wide(d);
  return n > never_ns ? never_ns : n > 0 ? static_cast<std::int64_t>(n) : 1;
}

/// The nanoseconds from now to t on t's own clock: 0 where t has come, or is NaN.
template <class C, class D> std::int64_t ns_until(const std::chrono::time_point<C, D>& t) {
  wide_ns left = detail::to_wide(t.time_since_epoch()) - detail::to_wide(C::now().time_since_epoch());
  return left <= 0 ? 0 : left > never_ns ? never_ns : static_cast<std::int64_t>(left);
}

/// After a wait of ns_until(t) that timed out: must the caller wait again? The library waits on the steady clock. Other
/// clocks may have been set meanwhile, or may run at another speed.
template <class C, class D> bool still_ahead(const std::chrono::time_point<C, D>& t) {
  if constexpr (std::is_same_v<C, std::chrono::steady_clock>) return false;
  else return detail::ns_until(t) > 0;
}

/// `ns` from now, or the last time point there is.
inline std::chrono::steady_clock::time_point steady_in(std::int64_t ns) noexcept {
  using clock = std::chrono::steady_clock;
  auto now = clock::now();
  std::chrono::nanoseconds d(ns);
  return d < clock::time_point::max() - now ? now + d : clock::time_point::max();
}

} // namespace grt::detail
