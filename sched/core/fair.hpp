// sched/core/fair.hpp - how long a runnable goroutine waits at most, as numbers. The argument stands in fair.cpp.
#pragma once
#include <cstdint>

namespace grt {

struct P;
struct M;
struct G;

/// A slice ends after so many turns, also if nobody has waited for 10 ms.
inline constexpr std::uint64_t slice_turns = 16384;
/// More goroutines that never ran than this on one P are a crowd. SpawnBatch holds 1,000.
inline constexpr std::uint32_t crowd = 4096;
/// A P takes so many goroutine ids at a time at the most, and so few while it holds a crowd. Each time go() may yield.
inline constexpr std::uint64_t ids_most = 1024, ids_in_crowd = 16;

/// The slice of this P ends: the front of each of its queues runs next, the oldest first. Caller: its owner, inside, or
/// whoever has taken it.
void turn(P* p) noexcept;
/// g0, inside. While a slice's end has fronts left to run: the next of them. Null: none is left, pick() goes on.
/// `fired`: timers were due.
G* front_due(M* m, bool fired) noexcept;
/// g0, inside, at every 64th tick: whom pick() would leave waiting. Null: nobody, pick() goes on. `fired`: timers were
/// due.
G* look_around(M* m, bool fired) noexcept;
/// Inside. A goroutine is about to start one more. Does this P hold a crowd? Then the crowd has begun to run: the
/// caller should give way.
bool crowded(P* p) noexcept;

} // namespace grt
