// sched/monitor/pace.hpp - the periods of what the runtime does seldom.
//
// A test that waits for one of these sets it shorter before the runtime starts, or at any time: what it waits for then
// comes sooner, by the same way. Nothing else writes them.
#pragma once
#include <atomic>
#include <cstdint>

namespace grt {

struct periods {
  /// Sysmon: between two passes of the scavenger, and between two looks at affinity and quota.
  std::atomic<std::uint64_t> pass_ns{1'000'000'000};
  /// Between the two looks of a deadlock report, and between the leader's looks while one is possible.
  std::atomic<std::uint64_t> deadlock_ns{100'000'000};
};
inline constinit periods pace;

} // namespace grt
