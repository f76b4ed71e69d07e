// sched/core/pin.hpp - pinned goroutines. pin.cpp has the protocol, and defines locked M (keeper).
#pragma once

namespace grt {

struct G;
struct M;
M* keeper_make();                // its thread waits for a goroutine; throws std::system_error
void keeper_drop(M* m) noexcept; // for a keeper whose goroutine was never started
void lend(M* m, G* g) noexcept;  // caller: g0, inside. g runs on its keeper with m's P until it parks, yields or ends

// loop.cpp
bool back_on_g0(
    M* m) noexcept; // call after every switch back to g0. true: inside. false: outside, m may have lost its P

} // namespace grt
