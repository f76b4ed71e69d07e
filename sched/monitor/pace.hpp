// sched/monitor/pace.hpp - the periods of rare work of the runtime.
//
// Only tests write these values. A test that waits for such work sets a shorter period, before the runtime starts or
// at any time. The work then comes sooner, by the same code path.
#pragma once
#include <atomic>
#include <cstdint>

namespace grt {

struct periods {
  /// sysmon: the time between two passes of the scavenger, and between two looks at affinity and quota.
  std::atomic<std::uint64_t> pass_ns{1'000'000'000};
  /// The time between the two looks of a deadlock report, and between two looks of the leader while a deadlock is
  /// possible.
  std::atomic<std::uint64_t> deadlock_ns{100'000'000};
};
inline constinit periods pace;

} // namespace grt
