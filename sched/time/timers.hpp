// sched/time/timers.hpp - the wheels of all Ps together. g0 only, unless said otherwise.
#pragma once
#include <cstdint>

namespace grt {

struct M;
struct P;
bool timers_due() noexcept;           // any thread: some P has a timer whose time has come
std::uint64_t timers_next() noexcept; // any thread: the earliest deadline of all Ps, ns, or wheel::never
void timers_run(M* m) noexcept;       // inside: fires what is due on every P
void timers_move(P* from, P* to) noexcept;
bool deadlock_possible() noexcept; // something is blocked at all
void deadlock_check(
    bool still_asleep) noexcept;     // every M sleeps and no timer is set; reports at the second time in a row
unsigned sleeping_ms() noexcept;     // in the idle list, or retired
std::uint64_t wake_epoch() noexcept; // grows whenever a sleeper leaves the list

} // namespace grt
