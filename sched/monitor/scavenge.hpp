// sched/monitor/scavenge.hpp - memory that stacks no longer use goes back to the kernel. See scavenge.cpp.
#pragma once
#include <cstdint>

namespace grt {

struct G;

enum class pass { under_way, whole, partial }; // partial: a costly stage was left out

/// Works for about `budget_ns` on the pass under way, or begins one. Any thread but never inside a bracket; two at once
/// share nothing: the second returns. To be called once a second, and again soon while the pass is under way.
pass scavenge(std::uint64_t budget_ns = 2'000'000) noexcept;
/// A whole pass, which spares no free window for being young. In a forked child nothing.
void scavenge_all() noexcept;

/// g0 has picked g and found it held. true: the scavenger makes it runnable again, and soon. false: it may run now.
[[nodiscard]] bool left_to_scavenger(G* g) noexcept;

} // namespace grt
