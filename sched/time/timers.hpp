// sched/time/timers.hpp - the wheels of all Ps together. Callers are g0 only, unless a comment says otherwise.
#pragma once
#include <cstdint>

namespace grt {

struct M;
struct P;
bool timers_due() noexcept;                      // any thread: is a timer of any P due?
std::uint64_t timers_next() noexcept;            // any thread: the earliest deadline of all Ps, ns, or wheel::never
void timers_run(M* m) noexcept;                  // inside a bracket: fires what is due on every P
void timers_move(P* from, P* to) noexcept;       // moves all timers of a P that is retired
bool deadlock_possible() noexcept;               // a foreign thread is blocked, and no poller is armed
void deadlock_check(bool still_asleep) noexcept; // the leader: reports if everything is asleep at two looks
unsigned sleeping_ms() noexcept;                 // how many Ms are in the idle list or retired
std::uint64_t wake_epoch() noexcept;             // grows whenever a sleeper leaves the list

} // namespace grt
