// tests/support/waiting.hpp - until somebody waits, without a guess at how long that takes.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string_view>

#include <grt/debug.hpp>
#include <grt/time.hpp>

/// How many goroutines wait for `why` (for anything, if empty): they are off their processors, and what they wait for
/// knows of them.
inline std::size_t waiting_for(std::string_view why) {
  auto all = grt::debug::snapshot();
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [why](const grt::debug::goroutine_info& g) {
    return g.st == grt::debug::state::waiting && (why.empty() || g.wait_reason == why);
  }));
}
/// Returns when `n` do. Any thread.
inline void await_waiting(std::size_t n, std::string_view why = {}) {
  while (waiting_for(why) < n) grt::sleep_for(std::chrono::microseconds(100));
}
