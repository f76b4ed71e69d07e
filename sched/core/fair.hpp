// sched/core/fair.hpp - how long a runnable goroutine waits at most, as numbers. fair.cpp has the proof.
#pragma once
#include <cstdint>

namespace grt {

struct P;
struct M;
struct G;

/// A slice ends after so many turns, even if no goroutine has waited for 10 ms.
inline constexpr std::uint64_t slice_turns = 16384;
/// More goroutines than this that have never run, on one P, are a crowd. The benchmark SpawnBatch has 1,000, so
/// it must not count as one.
inline constexpr std::uint32_t crowd = 4096;
/// A P takes at most ids_most goroutine ids at a time, and ids_in_crowd while it has a crowd. Each time it does,
/// go() may yield.
inline constexpr std::uint64_t ids_most = 1024, ids_in_crowd = 16;

/// Ends the slice of this P: the front of each of its queues runs next, the oldest first. Caller: its owner,
/// inside, or an M that has locked the owner out.
void turn(P* p) noexcept;
/// Caller: g0, inside. Returns the next of the fronts that must run because a slice has ended. Null: none is left,
/// pick() goes on. `fired`: timers were due.
G* front_due(M* m, bool fired) noexcept;
/// Caller: g0, inside, at every 64th tick. Returns a goroutine that pick() would leave waiting. Null: there is none,
/// pick() goes on. `fired`: timers were due.
G* look_around(M* m, bool fired) noexcept;
/// Caller: inside; its goroutine is about to start one more. Returns whether this P has a crowd. If so, the turns
/// of the crowd begin, and the caller should yield.
bool crowded(P* p) noexcept;

} // namespace grt
