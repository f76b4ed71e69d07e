// sched/core/pin.hpp - pinned goroutines; the protocol stands in pin.cpp.
#pragma once

namespace grt {

struct G;
struct M;
M* keeper_make();                // a thread that waits for its goroutine; throws std::system_error
void keeper_drop(M* m) noexcept; // one whose goroutine was never started
void lend(M* m, G* g) noexcept;  // g0, inside: g runs on its keeper with m's P until it parks, yields or ends

// loop.cpp
bool back_on_g0(M* m) noexcept; // after every switch back to g0: inside, or false: the P is another M's now

} // namespace grt
