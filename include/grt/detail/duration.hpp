// grt/detail/duration.hpp - spans of time as the core takes them. Not API.
#pragma once
#include <chrono>
#include <cstdint>

namespace grt::detail {

/// Whole nanoseconds, rounded up, never negative; what does not fit is for ever (285 years).
template <class R, class P> std::int64_t ns_of(std::chrono::duration<R, P> d) noexcept {
  using ns = std::chrono::nanoseconds;
  if (d <= d.zero()) return 0;
  if (std::chrono::duration<double>(d).count() > 9e9) return std::int64_t{9000000000} * 1000000000;
  return std::chrono::ceil<ns>(d).count();
}

} // namespace grt::detail
