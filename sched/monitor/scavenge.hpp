// sched/monitor/scavenge.hpp - memory that stacks no longer use goes back to the kernel. See scavenge.cpp.
#pragma once
#include <cstdint>

namespace grt {

struct G;

enum class pass { under_way, whole, partial }; // partial: a costly stage was left out, or another thread is at work

/// Works for about `budget_ns` on the pass under way, or begins a pass. Any thread, but never inside a bracket. If
/// another thread is working on it, the call returns at once. sysmon calls it once a second, and again soon while the
/// pass is under way.
pass scavenge(std::uint64_t budget_ns = 2'000'000) noexcept;
/// Runs a whole pass, which spares no free window for being young. Does nothing in a forked child.
void scavenge_all() noexcept;

/// Caller: g0, which has picked g and found it held. Returns true if the scavenger will soon make g runnable again,
/// and false if g may run now.
[[nodiscard]] bool left_to_scavenger(G* g) noexcept;

} // namespace grt
