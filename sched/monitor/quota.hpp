// sched/monitor/quota.hpp - how many CPUs this process may use.
#pragma once

namespace grt {

/// Returns min(affinity, cgroup quota), at least 1. A quota of one and a half CPUs counts as two, as in Go 1.25.
/// `root` is put before /proc and /sys, so that a test can use a tree of its own.
unsigned cpus_allowed(const char* root = "") noexcept;

} // namespace grt
