// grt/time.hpp - sleeping.
#pragma once
#include <chrono>
#include <cstdint>

namespace grt {

using time_point = std::chrono::steady_clock::time_point;

namespace detail {
void sleep_ns(std::int64_t ns);
/// Whole nanoseconds, rounded up, never negative; what does not fit is for ever (292 years).
template <class R, class P> std::int64_t ns_of(std::chrono::duration<R, P> d) noexcept {
  using ns = std::chrono::nanoseconds;
  if (d <= d.zero()) return 0;
  if (std::chrono::duration<double>(d).count() > 9e9) return std::int64_t{9000000000} * 1000000000;
  return std::chrono::ceil<ns>(d).count();
}
} // namespace detail

/// Parks for at least d. No allocation; a thread grt did not make sleeps in the kernel. Go: time.Sleep.
template <class R, class P> void sleep_for(std::chrono::duration<R, P> d) { detail::sleep_ns(detail::ns_of(d)); }
inline void sleep_until(time_point t) { sleep_for(t - std::chrono::steady_clock::now()); }

} // namespace grt
