// sched/monitor/quota.hpp - how many CPUs this process may use.
#pragma once

namespace grt {

/// min(affinity, cgroup quota), at least 1. A quota of one and a half CPUs counts as two, as in Go 1.25. `root` stands
/// before /proc and /sys: tests have a tree of their own.
unsigned cpus_allowed(const char* root = "") noexcept;

} // namespace grt
